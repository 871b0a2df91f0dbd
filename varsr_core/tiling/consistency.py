"""How tiles are brought to agree on one picture: in which order they run, and what they share.

Tiles that are restored apart dream up different detail where they overlap. Here the overlapping
parts of their latents are brought together after every step, before the next one is predicted, so
that each step is conditioned on a picture the neighbours agree on. The order is part of the mode
and never of the memory at hand: any number of tiles at once gives the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError
from .grid import TileGrid, faded

TilingMode = Literal["phased", "lock-step", "independent"]
TILING_MODES: tuple[str, ...] = get_args(TilingMode)

# One tile hands over to the next within this share of their overlap. Elsewhere in it one of them
# alone counts: to average more of two different pictures would blur them.
FADING_SHARE = 0.25
NEXT_TO_NOTHING = 1e-6  # where a tile is alone after all, it still counts


@dataclass(frozen=True)
class Tiling:
    """The user's choices for pictures larger than one tile.

    mode:    phased: tiles run in fixed phases, a later one takes over what its finished neighbours
             made where they overlap. lock-step: all tiles take a step, then meet; keeps the state
             of all of them in memory. independent: overlaps are only cross-faded at the end
    overlap: least overlap of neighbours, as a share of a tile; the published one is a quarter
    """

    mode: TilingMode = "phased"
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if self.mode not in TILING_MODES:
            raise InputError(f"tiling {self.mode!r} is none of {', '.join(TILING_MODES)}")
        if not 0 <= self.overlap <= 0.5:
            raise InputError(f"overlap is {self.overlap}; a share of 0 to 0.5 is expected")


@dataclass(frozen=True)
class Neighbourhood:
    """Which tiles of a grid overlap, and which may run together; `grid` counts in cells."""

    grid: TileGrid

    @cached_property
    def phases(self) -> list[list[int]]:
        """Tiles that may run together: within a phase none overlaps another."""
        strides = [
            _stride(starts, self.grid.tile) for starts in (self.grid.rows, self.grid.columns)
        ]
        phases: dict[tuple[int, int], list[int]] = {}
        for index in range(len(self.grid)):
            row, column = divmod(index, len(self.grid.columns))
            phases.setdefault((row % strides[0], column % strides[1]), []).append(index)
        return [phases[key] for key in sorted(phases)]

    def overlapping(self, index: int) -> list[int]:
        """All other tiles that share cells with this one."""
        top, left = self.grid.positions[index]
        rows, columns = (
            [number for number, other in enumerate(starts) if abs(other - start) < self.grid.tile]
            for starts, start in ((self.grid.rows, top), (self.grid.columns, left))
        )
        numbers = (row * len(self.grid.columns) + column for row in rows for column in columns)
        return [number for number in numbers if number != index]

    def take_over(self, latent: Tensor, index: int, finished: dict[int, Tensor]) -> Tensor:
        """A tile with its finished neighbours' latents in the overlaps.

        latent:   (C, S, S) of tile `index`
        finished: (C, S, S) of every neighbour that came before, after the same step
        returns   (C, S, S); where no neighbour reaches, the latent itself
        """
        total = torch.zeros_like(latent)
        weights = latent.new_zeros(latent.shape[1:])
        free = latent.new_ones(latent.shape[1:])
        for other, given in finished.items():
            own, theirs = self._shared(index, other)
            weight = self._authority(other).to(latent)[theirs]
            total[(..., *own)] += weight * given[(..., *theirs)].to(latent)
            weights[own] += weight
            free[own] *= 1 - weight
        given = total / weights.clamp(min=torch.finfo(weights.dtype).tiny)
        return torch.where(weights > 0, torch.lerp(given, latent, free), latent)

    def meet(self, latents: Tensor, wanted: Sequence[int]) -> Tensor:
        """Tiles that ran together, each with the same mixture of all where they overlap.

        latents: (pictures * tiles, C, S, S); wanted: numbers of the tiles that count
        returns  (len(wanted), C, S, S)
        """
        grid, channels = self.grid, latents.shape[1]
        canvas = latents.new_zeros(len(latents) // len(grid), channels, grid.height, grid.width)
        weights = torch.zeros_like(canvas[:, :1])
        for number in wanted:
            image, index = divmod(number, len(grid))
            area = (image, ..., *grid.area(index))
            weight = self._share(index).to(latents)
            canvas[area] += weight * latents[number]
            weights[area] += weight
        return grid.crop(canvas / weights, wanted)

    def _share(self, index: int) -> Tensor:
        """(S, S) how much a tile counts beside its neighbours: 1, in the end less than any."""
        row, column = divmod(index, len(self.grid.columns))
        return _handover(self.grid.rows, row, self.grid.tile)[:, None] * _handover(
            self.grid.columns, column, self.grid.tile
        )

    def _shared(self, index: int, other: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The cells both tiles cover, in the coordinates of each."""
        (top, left), (y, x) = self.grid.positions[index], self.grid.positions[other]
        rows, columns = (_common(top, y, self.grid.tile), _common(left, x, self.grid.tile))
        return (rows[0], columns[0]), (rows[1], columns[1])

    def _authority(self, index: int) -> Tensor:
        """(S, S) how far a finished tile is taken as given: 1, less towards its inner borders."""
        row, column = divmod(index, len(self.grid.columns))
        return _fading(self.grid.rows, row, self.grid.tile)[:, None] * _fading(
            self.grid.columns, column, self.grid.tile
        )


def _stride(starts: Sequence[int], tile: int) -> int:
    """The least n for which every n-th tile of an axis overlaps none of the others."""
    count = len(starts)
    return next(
        n
        for n in range(1, count + 1)
        if all(starts[i + n] - starts[i] >= tile for i in range(count - n))
    )


def _common(start: int, other: int, tile: int) -> tuple[slice, slice]:
    first, last = max(start, other), min(start, other) + tile
    return slice(first - start, last - start), slice(first - other, last - other)


def _overlaps(starts: Sequence[int], number: int, tile: int) -> tuple[int, int]:
    """Cells that a tile shares with the one before and the one behind."""
    before = starts[number - 1] + tile - starts[number] if number > 0 else 0
    last = number == len(starts) - 1
    return before, 0 if last else starts[number] + tile - starts[number + 1]


def _fading(starts: Sequence[int], number: int, tile: int) -> Tensor:
    """1, falling towards the ends that other tiles go on from."""
    before, behind = _overlaps(starts, number, tile)
    return faded(tile, _fade(before), _fade(behind))


def _fade(overlap: int) -> int:
    """Cells in which a tile fades; two if there is room: the outermost one, which was made beside
    nothing, comes out a little off, and then counts for little."""
    return max(math.ceil(overlap * FADING_SHARE), min(overlap // 2, 2))


def _handover(starts: Sequence[int], number: int, tile: int) -> Tensor:
    """1 up to the middle of an overlap, where it falls; next to nothing from there on."""
    before, behind = _overlaps(starts, number, tile)
    return _late_rise(tile, before) * _late_rise(tile, behind).flip(0)


def _late_rise(length: int, overlap: int) -> Tensor:
    fade = _fade(overlap)
    fade += (overlap - fade) % 2  # so that the fall of one tile meets the rise of the other
    quiet = (overlap - fade) // 2
    window = faded(length - quiet, fade, 0)
    return torch.cat((torch.full((quiet,), NEXT_TO_NOTHING), window))
