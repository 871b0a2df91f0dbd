"""Seeded random numbers, drawn on the CPU from generators of their own.

The same seed gives the same numbers on every device, and the process-wide generator of torch is
never touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 8  # cells; side of the blocks in which the noise of a canvas is drawn


def derive_seed(seed: int, *path: int | str) -> int:
    """An independent 64-bit seed for one use, e.g. derive_seed(seed, "tile", 3)."""
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class TileSeed:
    """What is random about one tile.

    tile:      for draws of its own
    canvas:    of the whole picture, for draws that are equal where tiles overlap
    top, left: where the tile lies on the canvas, in cells of the latent
    """

    tile: int
    canvas: int
    top: int = 0
    left: int = 0


def tile_seeds(seed: int, images: int, positions: Sequence[tuple[int, int]]) -> list[TileSeed]:
    """Seeds of tiles at `positions`, in cells; the same for every image of a batch, so that
    what stands still in a clip stays still."""
    tiles = [
        TileSeed(derive_seed(seed, "tile", number), derive_seed(seed, "canvas"), top, left)
        for number, (top, left) in enumerate(positions)
    ]
    return tiles * images


def draw_normal(channels: int, side: int, seeds: Sequence[TileSeed], use: str) -> Tensor:
    """Standard normal numbers of some tiles, equal where tiles overlap.

    They belong to the canvas, which has no end: it is drawn in blocks, each from its own seed, so
    that a tile costs the same wherever it lies and whatever the canvas measures.

    use:    tells draws for different purposes apart
    returns (len(seeds), channels, side, side) float32 on the CPU
    """
    return torch.stack([_window(channels, side, seed, use) for seed in seeds])


def _window(channels: int, side: int, seed: TileSeed, use: str) -> Tensor:
    rows, columns = (
        range(start // BLOCK, (start + side - 1) // BLOCK + 1) for start in (seed.top, seed.left)
    )
    shape = channels, BLOCK, BLOCK
    blocks = [
        torch.cat(
            [
                torch.randn(
                    *shape, generator=_generator(derive_seed(seed.canvas, use, row, column))
                )
                for column in columns
            ],
            dim=2,
        )
        for row in rows
    ]
    top, left = seed.top % BLOCK, seed.left % BLOCK
    return torch.cat(blocks, dim=1)[:, top : top + side, left : left + side]


def draw_uniform(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Uniform numbers in [0, 1), one entry per seed: (len(seeds), *shape) float32 on the CPU."""
    return torch.stack([torch.rand(*shape, generator=_generator(seed)) for seed in seeds])


def draw_exponential(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """As draw_uniform, from the exponential distribution of rate 1: above 0."""
    drawn = [torch.empty(*shape).exponential_(generator=_generator(seed)) for seed in seeds]
    return torch.stack(drawn)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
