"""What a transformer block does between its matrix products, as pure functions of tensors.

They hold no weights and no state, so that a compiler may take any of them without ever seeing a
layer: whatever a host does to weights (offload, patch, quantise), nothing compiled goes stale.

Shape letters as in transformer.py. The residual stream and all arithmetic here are float32; what
goes into a product has its `dtype`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nn.rope import apply_rope

NORM_EPS = 1e-6


def modulate(x: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """Layer norm without weights, then scale and shift: (R, L, D) -> (R, L, D) in `dtype`."""
    h = F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
    return torch.addcmul(shift, h, 1 + scale).to(dtype)


def split_heads(qkv: Tensor, query_scale: Tensor, rope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised and rotated q and k, and v.

    qkv:         (R, L, 3 * D) in the dtype of the result
    query_scale: (H, 1, 1) float32
    rope:        (2, L, head_dim / 2)
    returns      three times (R, H, L, head_dim)
    """
    heads = query_scale.shape[0]
    parts = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    # Laid out by heads at once: arithmetic on what lies scattered takes twice as long.
    q, k = parts[:2].to(torch.float32, memory_format=torch.contiguous_format).unbind(0)
    q = F.normalize(q, dim=-1) * query_scale
    k = F.normalize(k, dim=-1)
    return apply_rope(q, rope).to(qkv.dtype), apply_rope(k, rope).to(qkv.dtype), parts[2]


def add_and_modulate(
    x: Tensor, gamma: Tensor, h: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """What attention found, added to the stream, and the input of the MLP in the dtype of h."""
    x = x + gamma * h
    return x, modulate(x, scale, shift, h.dtype)


def activate(h: Tensor) -> Tensor:
    return F.gelu(h, approximate="tanh")


def add(x: Tensor, gamma: Tensor, h: Tensor) -> Tensor:
    return x + gamma * h


@dataclass(frozen=True)
class Pointwise:
    """Which implementation of the functions above a block runs."""

    modulate: Callable[..., Tensor] = modulate
    split_heads: Callable[..., tuple[Tensor, Tensor, Tensor]] = split_heads
    add_and_modulate: Callable[..., tuple[Tensor, Tensor]] = add_and_modulate
    activate: Callable[..., Tensor] = activate
    add: Callable[..., Tensor] = add


PLAIN = Pointwise()
