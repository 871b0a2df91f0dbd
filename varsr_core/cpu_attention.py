"""Attention in bf16 on a CPU, as matrix products that its bf16 units run at full speed.

torch's own kernel there converts to float32 and reaches a quarter of that speed. Products in bf16
come out rounded to 8 bits, too coarse for logits of 20 and more; so the largest logit of every row
is found first, and taken off inside the product, before it is rounded. What is left is exact where
it counts: near zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 256  # queries at once; their logits then stay in the cache
WORTHWHILE = 1 << 18  # logits of a head; fewer are faster in torch's kernel


def worthwhile(q: Tensor, k: Tensor) -> bool:
    """Whether `cpu_attention` is faster than torch for queries and keys (R, H, L, d)."""
    at_home = q.device.type == "cpu" and q.dtype == torch.bfloat16
    return at_home and q.shape[2] * k.shape[2] >= WORTHWHILE


def cpu_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v with softmax scale 1, for (R, H, L, d) bf16: the same shape as q."""
    seen = torch.empty_like(q)
    for row, keys, values in ((r, k[r], v[r]) for r in range(q.shape[0])):
        for head in range(q.shape[1]):
            across = keys[head].T
            for start in range(0, q.shape[2], ROWS):
                part = row, head, slice(start, start + ROWS)
                seen[part] = _some(q[part], across, values[head])
    return seen


def _some(queries: Tensor, across: Tensor, values: Tensor) -> Tensor:
    """queries: (L, d); across: keys (d, K); values: (K, d)."""
    logits = queries @ across
    largest = logits.amax(dim=1, keepdim=True).expand_as(logits)
    weights = torch.addmm(largest, queries, across, beta=-1).exp_()
    total = weights.sum(dim=1, keepdim=True, dtype=torch.float32)
    return (weights @ values).float().div_(total).to(queries.dtype)
