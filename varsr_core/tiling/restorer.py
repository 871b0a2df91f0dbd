"""A model family as `upscale()` and the loop see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from .decode import TileDecoder
from .grid import TileGrid, TileIndex
from .noise import TileSeed, tile_seeds
from .scheduler import TileState

State = TypeVar("State", bound=TileState)


class Restorer(Protocol[State]):
    """A model family as `upscale()` sees it."""

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
    def steps(self) -> int:
        """How many steps one tile takes: each scale, and the refiner where there is one."""
        ...

    def describe(self, k: int) -> str:
        """What step k does, in the user's words."""
        ...

    def start(self, lq: Tensor, seeds: Sequence[TileSeed]) -> State:
        """lq: (N, 3, side, side) in [0, 1], side tile_size / reduction; one seed per tile."""
        ...

    def step(self, state: State, k: int) -> None:
        """One scale, or the refiner."""
        ...

    def preview(self, latent: Tensor) -> Tensor:
        """What a latent shows, cheaply; see PreviewFn."""
        ...

    @property
    def decoder(self) -> TileDecoder:
        """From latents to pixels."""
        ...


def restore(restorer: Restorer[Any], lq: Tensor, seeds: Sequence[TileSeed]) -> Tensor:
    """Low-quality tiles to restored ones: the method, without tiling, retries and previews.

    lq:     (N, 3, side, side) in [0, 1], side tile_size / reduction
    seeds:  one per tile
    returns (N, 3, tile_size, tile_size) in [0, 1]
    """
    state = restorer.start(lq, seeds)
    for k in range(restorer.steps):
        restorer.step(state, k)
    return restorer.decoder.decode(state.latent)


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
    ) -> None:
        """lq: (3, h, w) in [0, 1] each, the grids' sides divided by the restorer's reduction."""
        self.restorer, self.lq, self.device = restorer, lq, device
        self.tiles = TileIndex([grid.reduced(restorer.reduction) for grid in grids])
        self.steps = restorer.steps
        self.seeds = [one for grid in grids for one in tile_seeds(seed, 1, grid.cells().positions)]

    def describe(self, k: int) -> str:
        return self.restorer.describe(k)

    def start(self, numbers: Sequence[int]) -> TileState:
        lq = self.tiles.crop(self.lq, numbers).to(self.device)
        return self.restorer.start(lq, [self.seeds[number] for number in numbers])

    def step(self, state: TileState, numbers: Sequence[int], k: int) -> None:
        self.restorer.step(state, k)

    def finish(self, state: TileState, numbers: Sequence[int]) -> None:
        """Nothing but the latents is wanted."""
