"""Where tiles lie on a picture of any size: pure geometry, split and merge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TileGrid:
    """Evenly spaced square tiles that cover a canvas and overlap by at least `overlap`.

    height, width: of the canvas, in pixels; at least one tile, and a multiple of `align`
    tile:          side of a tile
    overlap:       least overlap of neighbours, in pixels
    align:         tiles start at multiples of this (pixels per token, so that latents align too)
    """

    height: int
    width: int
    tile: int
    overlap: int
    align: int = 1

    def __post_init__(self) -> None:
        if min(self.height, self.width) < self.tile:
            raise ValueError(
                f"a canvas of {self.width}x{self.height} is smaller than a tile of {self.tile}"
            )
        if not 0 <= self.overlap <= self.tile // 2:
            raise ValueError(f"overlap {self.overlap} is not within 0 and half of {self.tile}")
        if self.height % self.align or self.width % self.align:
            raise ValueError(f"{self.width}x{self.height} is no multiple of {self.align}")

    @property
    def rows(self) -> tuple[int, ...]:
        """First pixel row of each row of tiles."""
        return _starts(self.height, self.tile, self.overlap, self.align)

    @property
    def columns(self) -> tuple[int, ...]:
        """First pixel column of each column of tiles."""
        return _starts(self.width, self.tile, self.overlap, self.align)

    @property
    def positions(self) -> list[tuple[int, int]]:
        """(top, left) of every tile, row by row."""
        return [(top, left) for top in self.rows for left in self.columns]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def split(self, canvas: Tensor) -> Tensor:
        """(B, C, height, width) -> (B * tiles, C, tile, tile), the tiles of an image together."""
        tiles = [
            canvas[:, :, top : top + self.tile, left : left + self.tile]
            for top, left in self.positions
        ]
        return torch.stack(tiles, dim=1).flatten(0, 1)

    def merge(self, tiles: Tensor) -> Tensor:
        """(B * tiles, C, tile, tile) -> (B, C, height, width), overlaps cross-faded."""
        tiles = tiles.unflatten(0, (-1, len(self)))
        if len(self) == 1:
            return tiles[:, 0]
        batch, _, channels = tiles.shape[:3]
        canvas = tiles.new_zeros(batch, channels, self.height, self.width)
        weight = tiles.new_zeros(self.height, self.width)
        for index, (top, left) in enumerate(self.positions):
            window = self._window(self.rows, top)[:, None] * self._window(self.columns, left)
            window = window.to(tiles)
            area = (..., slice(top, top + self.tile), slice(left, left + self.tile))
            canvas[area] += tiles[:, index] * window
            weight[area[1:]] += window
        return canvas / weight

    def _window(self, starts: tuple[int, ...], start: int) -> Tensor:
        """Weights of a tile along one axis: 1, falling smoothly over the overlaps only."""
        index = starts.index(start)
        window = torch.ones(self.tile)
        if index > 0:
            ramp = _ramp(starts[index - 1] + self.tile - start)
            window[: len(ramp)] *= ramp
        if index < len(starts) - 1:
            ramp = _ramp(start + self.tile - starts[index + 1])
            window[self.tile - len(ramp) :] *= ramp.flip(0)
        return window


def _ramp(length: int) -> Tensor:
    """Raised cosine from just above 0 to just below 1; with its mirror image it sums to 1."""
    return (1 - torch.cos((torch.arange(length) + 0.5) / max(length, 1) * math.pi)) / 2


def _starts(length: int, tile: int, overlap: int, align: int) -> tuple[int, ...]:
    """Evenly spaced first pixels, multiples of `align`; the last tile ends at the border."""
    overlap = math.ceil(overlap / align) * align
    gaps = math.ceil((length - tile) / (tile - overlap))
    if gaps == 0:
        return (0,)
    # Rounding half up, in integers: neighbours then never lie further apart than tile - overlap.
    unit = 2 * gaps * align
    return tuple((2 * i * (length - tile) + unit // 2) // unit * align for i in range(gaps + 1))
