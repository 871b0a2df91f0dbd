"""A model family as `upscale()` and the loop see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..runtime.defaults import ModelDefaults
from ..runtime.transfer import brought
from ..runtime.work import Task
from .decode import TileDecoder
from .grid import TileGrid, TileIndex
from .noise import TileSeed, tile_seeds
from .tile_work import TileState, changed

State = TypeVar("State", bound=TileState)


class Restorer(Protocol[State]):
    """A model family as `upscale()` sees it."""

    @property
    def defaults(self) -> ModelDefaults:
        """What the model is best run with."""
        ...

    @property
    def tile_size(self) -> int:
        """Side of the tiles it restores, in pixels."""
        ...

    @property
    def reduction(self) -> int:
        """Pixels of the output, along a side, for one pixel of the picture it is given."""
        ...

    @property
    def align(self) -> int:
        """Pixels per cell of the latent: tiles start at multiples of it; a multiple of reduction"""
        ...

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        ...

    @property
    def tile_bytes(self) -> int:
        """Memory that one tile takes beside the weights."""
        ...

    @property
    def weight_bytes(self) -> int:
        """Memory that all its weights take."""
        ...

    @property
    def steps(self) -> int:
        """How many steps one tile takes: each scale, and the refiner where there is one."""
        ...

    @property
    def starting(self) -> Task:
        """What `start` does with one tile."""
        ...

    def task(self, k: int) -> Task:
        """What step k does with one tile."""
        ...

    def start(self, lq: Tensor, seeds: Sequence[TileSeed]) -> State:
        """lq: (N, 3, side, side) in [0, 1], side tile_size / reduction; one seed per tile."""
        ...

    def step(self, state: State, k: int) -> None:
        """One scale, or the refiner."""
        ...

    @property
    def decoder(self) -> TileDecoder:
        """From latents to pixels."""
        ...

    @property
    def wider(self) -> Restorer[State] | None:
        """The same in a dtype in which nothing overflows; None if it is in one. `start` and `step`
        are run while weights are cast, see `CastWeights`."""
        ...


def second_reduction(restorer: Restorer[Any]) -> int:
    """Of a restorer that looks at each tile at a second, smaller size, which `start` then is given
    as a third argument: pixels of the output, along a side, for one of that. 0 for all others,
    which need not know of it."""
    return getattr(restorer, "coarse_reduction", 0)


def restore(restorer: Restorer[Any], lq: Tensor, seeds: Sequence[TileSeed]) -> Tensor:
    """Low-quality tiles to restored ones: the method, without tiling, retries and previews.

    lq:     (N, 3, side, side) in [0, 1], side tile_size / reduction
    seeds:  one per tile
    returns (N, 3, tile_size, tile_size) in [0, 1]
    """
    return restorer.decoder.decode(all_steps(restorer, lq, seeds).latent)


def all_steps(restorer: Restorer[State], lq: Tensor, seeds: Sequence[TileSeed]) -> State:
    """The same up to the last latent: the state behind the last step."""
    state = restorer.start(lq, seeds)
    for k in range(restorer.steps):
        restorer.step(state, k)
    return state


class RestoringWork:
    """A Restorer on the tiles of a few pictures, for the loop."""

    settled = 0

    def __init__(
        self,
        restorer: Restorer,
        grids: Sequence[TileGrid],
        lq: Sequence[Tensor],
        seed: int,
        device: torch.device,
        small: Sequence[Tensor] = (),
    ) -> None:
        """
        lq:    (3, h, w) in [0, 1] each, the grids' sides divided by the restorer's reduction
        small: the same divided by its second one, where it has one
        """
        self.restorer, self.lq, self.device, self.small = restorer, lq, device, small
        if small:
            reduction = second_reduction(restorer)
            self.small_tiles = TileIndex([grid.reduced(reduction) for grid in grids])
        self.starting = restorer.starting
        self.tasks = [restorer.task(k) for k in range(restorer.steps)]
        self.tiles = TileIndex([grid.reduced(restorer.reduction) for grid in grids])
        self.steps = restorer.steps
        self.seeds = [one for grid in grids for one in tile_seeds(seed, 1, grid.cells().positions)]

    @property
    def wider(self) -> RestoringWork | None:
        wider = self.restorer.wider
        if wider is None:
            return None
        return changed(self, restorer=wider, tasks=[wider.task(k) for k in range(self.steps)])

    def task(self, k: int) -> Task:
        return self.tasks[k]

    def start(self, numbers: Sequence[int]) -> TileState:
        lq = brought(self.tiles.crop(self.lq, numbers), self.device)
        seeds = [self.seeds[number] for number in numbers]
        if not self.small:
            return self.restorer.start(lq, seeds)
        small = brought(self.small_tiles.crop(self.small, numbers), self.device)
        start: Any = self.restorer.start
        return start(lq, seeds, small)

    def step(self, state: TileState, numbers: Sequence[int], k: int) -> None:
        self.restorer.step(state, k)

    def finish(self, state: TileState, numbers: Sequence[int]) -> None:
        """Nothing but the latents is wanted."""
