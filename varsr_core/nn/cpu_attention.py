"""Attention in bf16 on a CPU, as matrix products that its bf16 units run at full speed.

torch's own kernel there converts to float32 and reaches a quarter of that speed. Products in bf16
come out rounded to 8 bits, too coarse for logits of 20 and more; so about the largest logit of
every row is taken off inside the product, before it is rounded. What is left is exact where it
counts: near zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 512  # queries at once, of which the logits do not leave the cache
WORTHWHILE = 1 << 18  # logits of a head; fewer are faster in torch's kernel
SAMPLED = 7  # of as many keys one is asked for the largest logit; no divisor of a map's side
HIGHEST = 60.0  # a logit may be as much above what is taken off; exp(60) is far from overflowing
ONES = 16  # columns behind the values, so that their product sums the weights as well


def worthwhile(q: Tensor, k: Tensor) -> bool:
    """Whether `cpu_attention` is faster than torch for queries and keys (R, H, L, d)."""
    at_home = q.device.type == "cpu" and q.dtype == torch.bfloat16
    return at_home and q.shape[2] * k.shape[2] >= WORTHWHILE


def cpu_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v with softmax scale 1, for (R, H, L, d) bf16: the same shape as q."""
    seen = torch.empty_like(q)
    at_once = torch.get_num_threads()  # heads: each thread then works on its own
    for row in range(q.shape[0]):
        for start in range(0, q.shape[1], at_once):
            heads = row, slice(start, start + at_once)
            _some_heads(q[heads], k[heads], v[heads], seen[heads])
    return seen


def _some_heads(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> None:
    """All (H, ., d)."""
    across, some = k.mT, k[:, ::SAMPLED].contiguous().mT
    values = torch.cat((v, v.new_ones(*v.shape[:2], ONES)), dim=2)
    longest = k.norm(dim=2, dtype=torch.float32).amax(dim=1)
    for start in range(0, q.shape[1], ROWS):
        part = slice(None), slice(start, start + ROWS)
        large = _nearly_largest(q[part], some, across, longest)
        large = large.expand(-1, -1, across.shape[2])
        weights = torch.baddbmm(large, q[part], across, beta=-1).exp_()
        summed = weights @ values
        torch.div(summed[..., :-ONES], summed[..., -1:], out=seen[part])


def _nearly_largest(queries: Tensor, some: Tensor, across: Tensor, longest: Tensor) -> Tensor:
    """About the largest logit of each row, (H, L, 1): of some keys, or of all, lest exp overflow.

    longest: (H,), length of the longest key
    """
    found = (queries @ some).amax(dim=2, keepdim=True)
    possible = queries.norm(dim=2, keepdim=True, dtype=torch.float32) * longest[:, None, None]
    if (possible - found).amax() < HIGHEST:
        return found
    return (queries @ across).amax(dim=2, keepdim=True)
