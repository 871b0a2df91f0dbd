"""Scale-aligned rotary position embedding: maps of every side share one coordinate frame."""

from __future__ import annotations

import torch
from torch import Tensor

GRID = 32  # side of the common coordinate frame, whatever the schedule (paper, section 3.3)
BASE = 10000.0


def map_positions(side: int) -> Tensor:
    """Row and column of every token of a map, in units of the common grid: (side * side, 2)."""
    index = torch.arange(side, dtype=torch.float32) / side * GRID
    return torch.stack(torch.meshgrid(index, index, indexing="ij"), dim=-1).reshape(-1, 2)


def rope_table(positions: Tensor, head_dim: int) -> Tensor:
    """Cosine and sine of every rotation angle.

    positions: (L, 2) row and column
    returns    (2, L, head_dim / 2) float32; the first half of the angles turns with the row, the
               second with the column. Real numbers, because complex64 is slow and absent on MPS.
    """
    if head_dim % 4:
        raise ValueError(f"a head of {head_dim} channels cannot be turned in two directions")
    frequencies = BASE ** (-4 * torch.arange(head_dim // 4, dtype=torch.float32) / head_dim)
    angles = (positions[:, :, None] * frequencies).flatten(1)
    return torch.stack((angles.cos(), angles.sin()))


def apply_rope(x: Tensor, rope: Tensor) -> Tensor:
    """Rotates channel pairs (m, m + head_dim / 2) by the angles of their token.

    The released weights pair neighbouring channels; conversion reorders q and k once, so that no
    strided access is needed here (see rotary_order in weights.py).

    x:    (R, H, L, head_dim) float32
    rope: (2, L, head_dim / 2)
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = rope
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
