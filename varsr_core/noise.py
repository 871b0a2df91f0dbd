"""Seeded random numbers, drawn on the CPU from generators of their own.

The same seed gives the same numbers on every device, and the process-wide generator of torch is
never touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def derive_seed(seed: int, *path: int | str) -> int:
    """An independent 64-bit seed for one use, e.g. derive_seed(seed, "tile", 3)."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def tile_seeds(seed: int, images: int, tiles_per_image: int) -> list[int]:
    """One seed per tile, the same for every image of a batch: still parts of a clip stay still."""
    return [derive_seed(seed, "tile", tile) for tile in range(tiles_per_image)] * images


def draw_normal(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Standard normal numbers, one entry per seed: (len(seeds), *shape) float32 on the CPU."""
    return torch.stack([torch.randn(*shape, generator=_generator(seed)) for seed in seeds])


def draw_uniform(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Uniform numbers in [0, 1), one entry per seed: (len(seeds), *shape) float32 on the CPU."""
    return torch.stack([torch.rand(*shape, generator=_generator(seed)) for seed in seeds])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
