"""Where tiles lie on a picture of any size: pure geometry, split and merge."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from ..runtime.transfer import CPU
from .windows import Profile, axis_windows

Canvases = Tensor | Sequence[Tensor]
"""One for each picture: (B, C, height, width), or (C, height, width) each of different sizes."""


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
        if not 0 <= self.overlap <= -(-self.tile // 2):
            raise ValueError(f"overlap {self.overlap} is not within 0 and half of {self.tile}")
        if self.height % self.align or self.width % self.align or self.tile % self.align:
            raise ValueError(
                f"{self.width}x{self.height} or {self.tile} is no multiple of {self.align}"
            )

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """First pixel row of each row of tiles."""
        return _starts(self.height, self.tile, self.overlap, self.align)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """First pixel column of each column of tiles."""
        return _starts(self.width, self.tile, self.overlap, self.align)

    @cached_property
    def positions(self) -> list[tuple[int, int]]:
        """(top, left) of every tile, row by row."""
        return [(top, left) for top in self.rows for left in self.columns]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def area(self, index: int) -> tuple[slice, slice]:
        """Rows and columns of the canvas that a tile covers."""
        top, left = self.positions[index]
        return slice(top, top + self.tile), slice(left, left + self.tile)

    def cells(self) -> TileGrid:
        """The same tiles where `align` pixels are one: on a canvas of latents."""
        return self.reduced(self.align)

    def reduced(self, unit: int) -> TileGrid:
        """The same tiles where `unit` pixels, a divisor of `align`, are one."""
        return TileGrid(
            self.height // unit,
            self.width // unit,
            self.tile // unit,
            math.ceil(self.overlap / unit),
            self.align // unit,
        )

    def crop(self, canvas: Tensor, numbers: Sequence[int]) -> Tensor:
        """Some tiles of (B, C, height, width): (len(numbers), C, tile, tile).

        Tile number n is tile n % len(grid) of picture n // len(grid).
        """
        return TileIndex([self] * len(canvas)).crop(canvas, numbers)

    def split(self, canvas: Tensor) -> Tensor:
        """(B, C, height, width) -> (B * tiles, C, tile, tile), the tiles of an image together."""
        return self.crop(canvas, range(canvas.shape[0] * len(self)))

    def add(self, canvas: Tensor, numbers: Sequence[int], tiles: Tensor) -> None:
        """Adds tiles (len(numbers), C, tile, tile) to a canvas that began at zero.

        Weights of overlapping tiles sum to one, so the canvas is done when each has come once.
        """
        TileIndex([self] * len(canvas)).add(canvas, numbers, tiles)

    def merge(self, tiles: Tensor) -> Tensor:
        """(B * tiles, C, tile, tile) -> (B, C, height, width), overlaps cross-faded."""
        images = tiles.shape[0] // len(self)
        if len(self) == 1:
            return tiles
        canvas = tiles.new_zeros(images, tiles.shape[1], self.height, self.width)
        self.add(canvas, range(len(tiles)), tiles)
        return canvas

    def window(self, index: int, profile: Profile = "blend", device: torch.device = CPU) -> Tensor:
        """Weights of a tile, (tile, tile) float32: above 0 and at most 1, as where a tile is alone.

        profile: what they are for; see Profile
        """
        row, column = divmod(index, len(self.columns))
        down = axis_windows(self.rows, self.tile, profile, device)[row]
        return down[:, None] * axis_windows(self.columns, self.tile, profile, device)[column]


class TileIndex:
    """Tiles of several pictures in one count: those of the first, of the second, and so on.

    grids: of each picture
    """

    def __init__(self, grids: Sequence[TileGrid]) -> None:
        self.grids = grids
        self._ends = list(accumulate(len(grid) for grid in grids))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def of(self, picture: int) -> range:
        """Numbers of the tiles of a picture."""
        end = self._ends[picture]
        return range(end - len(self.grids[picture]), end)

    def locate(self, number: int) -> tuple[int, int]:
        """The picture that a tile is of, and its index in the grid of that picture."""
        picture = bisect_right(self._ends, number)
        return picture, number - self.of(picture).start

    def crop(self, canvases: Canvases, numbers: Sequence[int]) -> Tensor:
        """Some tiles: (len(numbers), C, tile, tile)."""
        found = (self.locate(number) for number in numbers)
        return torch.stack(
            [canvases[picture][(..., *self.grids[picture].area(i))] for picture, i in found]
        )

    def add(self, canvases: Canvases, numbers: Sequence[int], tiles: Tensor) -> None:
        """Adds tiles to canvases that began at zero; see TileGrid.add."""
        for number, tile in zip(numbers, tiles.to(canvases[0]), strict=True):
            picture, index = self.locate(number)
            grid, canvas = self.grids[picture], canvases[picture]
            weight = grid.window(index, device=canvas.device).to(canvas.dtype)
            canvas[(..., *grid.area(index))] += tile * weight


def _starts(length: int, tile: int, overlap: int, align: int) -> tuple[int, ...]:
    """Evenly spaced first pixels, multiples of `align`; the last tile ends at the border."""
    overlap = math.ceil(overlap / align) * align
    gaps = math.ceil((length - tile) / max(tile - overlap, align))
    if gaps == 0:
        return (0,)
    # Rounding half up, in integers: neighbours then never lie further apart than tile - overlap.
    unit = 2 * gaps * align
    return tuple((2 * i * (length - tile) + unit // 2) // unit * align for i in range(gaps + 1))
