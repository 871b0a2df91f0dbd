"""What the tokens of one call see: a cache of earlier calls, or each other, map after map.

A block is given one of these with every call and knows no other way to attend, so sampling and
training run the same network. The kernel that computes is chosen when a network is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .kv_cache import KVCache

AttentionFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A kernel: softmax(q k^T) v, softmax scale 1, of q (R, H, L, head_dim), k and v (R, H, M, .)."""


class Attend(Protocol):
    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor:
        """What the tokens of this call see in one layer.

        q:       (R, H, n, head_dim) of the last n tokens; with n = 0 keys and values still count
        k, v:    (R, H, L, head_dim) of all tokens
        returns  the shape of q
        """
        ...


@dataclass(frozen=True)
class CachedAttention:
    """Behind everything that a cache holds, which takes in the new keys and values.

    counts: tokens of each map, where there is more than one: a map does not see those behind it
    last:   whether nothing will look back at these tokens, so that the cache need not hold them
    """

    cache: KVCache
    kernel: AttentionFn
    counts: Sequence[int] = ()
    last: bool = False

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor:
        store = self.cache.joined if self.last else self.cache.append
        k, v = store(layer, k, v)
        return block_causal(q, k, v, self.counts, self.kernel) if q.shape[2] else q


@dataclass(frozen=True)
class BlockCausalAttention:
    """Of all maps in one pass: a map sees itself and everything before it.

    counts: tokens of each map, whatever lies before the first one counted in
    """

    counts: Sequence[int]
    kernel: AttentionFn

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor:
        return block_causal(q, k, v, self.counts, self.kernel)


def block_causal(
    q: Tensor, k: Tensor, v: Tensor, counts: Sequence[int], kernel: AttentionFn
) -> Tensor:
    """One call of the kernel for each map, whose keys simply end where it ends: no mask, and
    nothing computed that a mask would throw away, a third of all pairs.

    q:      (R, H, L, head_dim) of maps with `counts` tokens, sum L
    k, v:   (R, H, M, head_dim), the last L of the same tokens
    """
    if len(counts) < 2:
        return kernel(q, k, v)
    seen, end = [], k.shape[2] - sum(counts)
    for queries in q.split(list(counts), dim=2):
        end += queries.shape[2]
        seen.append(kernel(queries, k[:, :, :end], v[:, :, :end]))
    return torch.cat(seen, dim=2)
