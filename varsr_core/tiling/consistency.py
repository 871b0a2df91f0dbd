"""How neighbouring tiles come to show one picture: in which order they run, and how they blend.

Tiles that are restored apart dream up different detail where they overlap. Here their latents are
blended there after every step, before the next step is predicted, so that each step goes on from a
picture on which neighbours are one. The order belongs to the mode and never to the memory at hand:
the picture does not depend on how many tiles run at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError
from .grid import TileGrid
from .windows import common

TilingMode = Literal["phased", "lock-step", "independent"]
TILING_MODES: tuple[str, ...] = get_args(TilingMode)


@dataclass(frozen=True)
class Tiling:
    """The user's choices for pictures larger than one tile.

    mode:    phased: tiles run in fixed phases; where a later one overlaps its finished neighbours,
             it takes over what they made. lock-step: all tiles take a step, then their overlaps are
             averaged; keeps the state of all of them in memory. independent: overlaps are only
             cross-faded at the end
    overlap: least overlap of neighbours, as a fraction of a tile; the published one is a quarter
    """

    mode: TilingMode = "phased"
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if self.mode not in TILING_MODES:
            raise InputError(f"tiling {self.mode!r} is none of {', '.join(TILING_MODES)}")
        if not 0 <= self.overlap <= 0.5:
            raise InputError(f"overlap is {self.overlap}; a share of 0 to 0.5 is expected")


@dataclass(frozen=True)
class Given:
    """What tiles take over from their neighbours.

    latents: (..., C, S, S)
    reached: (S, S) bool, or (N, 1, S, S) of several tiles; where a neighbour reaches
    own:     likewise, how much of the tile itself stays there
    """

    latents: Tensor
    reached: Tensor
    own: Tensor

    def over(self, latent: Tensor, step: int | None = None) -> Tensor:
        """A tile, (C, S, S), or several, with what they take over; elsewhere they are as they were.

        step: which of the steps that the first dimension of `latents` counts, if it does
        """
        latents = self.latents if step is None else self.latents[step]
        return torch.where(self.reached, torch.lerp(latents, latent, self.own), latent)


def together(given: Sequence[Given | None]) -> Given | None:
    """Of several tiles, whose latents are (steps, C, S, S); None for one that takes over nothing.

    returns latents (steps, N, C, S, S); None if no tile takes over anything
    """
    like = next((one for one in given if one is not None), None)
    if like is None:
        return None
    none = Given(*map(torch.zeros_like, (like.latents, like.reached, like.own)))
    all_ = [none if one is None else one for one in given]
    return Given(
        torch.stack([one.latents for one in all_], dim=1),
        torch.stack([one.reached for one in all_])[:, None],
        torch.stack([one.own for one in all_])[:, None],
    )


@dataclass(frozen=True)
class Overlaps:
    """Which tiles of a grid overlap, and how their latents blend; `grid` counts in cells."""

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

    def neighbours(self, index: int) -> list[int]:
        """All other tiles that overlap this one."""
        top, left = self.grid.positions[index]
        rows, columns = (
            [number for number, other in enumerate(starts) if abs(other - start) < self.grid.tile]
            for starts, start in ((self.grid.rows, top), (self.grid.columns, left))
        )
        numbers = (row * len(self.grid.columns) + column for row in rows for column in columns)
        return [number for number in numbers if number != index]

    def given(self, index: int, finished: Mapping[int, Tensor]) -> Given | None:
        """What its finished neighbours make of a tile; None where it has none.

        finished: (..., C, S, S) of every neighbour that came before, after the same steps
        """
        like = next(iter(finished.values()), None)
        if like is None:
            return None
        total = torch.zeros_like(like)
        weights = like.new_zeros(like.shape[-2:])
        own = like.new_ones(like.shape[-2:])
        for other, theirs in finished.items():
            area, their_area = self._overlap(index, other)
            weight = self.grid.window(other, "given", like.device)[their_area]
            total[(..., *area)] += weight * theirs[(..., *their_area)]
            weights[area] += weight
            own[area] *= 1 - weight
        latents = total / weights.clamp(min=torch.finfo(weights.dtype).tiny)
        return Given(latents, weights > 0, own)

    def blend(self, latents: Tensor, wanted: Sequence[int]) -> Tensor:
        """Tiles that ran side by side, each with the same mixture of all where they overlap.

        latents: (pictures * tiles, C, S, S); wanted: numbers of the tiles that count
        returns  (len(wanted), C, S, S)
        """
        grid, channels = self.grid, latents.shape[1]
        canvas = latents.new_zeros(len(latents) // len(grid), channels, grid.height, grid.width)
        weights = torch.zeros_like(canvas[:, :1])
        for number in wanted:
            picture, index = divmod(number, len(grid))
            area = (picture, ..., *grid.area(index))
            weight = grid.window(index, "handover", latents.device)
            canvas[area] += weight * latents[number]
            weights[area] += weight
        return grid.crop(canvas / weights, wanted)

    def _overlap(self, index: int, other: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The cells that both tiles cover, in the coordinates of each."""
        (top, left), (y, x) = self.grid.positions[index], self.grid.positions[other]
        rows, columns = common(top, y, self.grid.tile), common(left, x, self.grid.tile)
        return (rows[0], columns[0]), (rows[1], columns[1])


def _stride(starts: Sequence[int], tile: int) -> int:
    """The least n for which every n-th tile of an axis overlaps none of the others."""
    count = len(starts)
    return next(
        n
        for n in range(1, count + 1)
        if all(starts[i + n] - starts[i] >= tile for i in range(count - n))
    )
