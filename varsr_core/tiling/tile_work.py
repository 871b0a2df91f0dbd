"""What the loop over tiles asks of a family: the state of some tiles, and the work on them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..runtime.work import Task


class TileState(Protocol):
    """Tiles between two steps.

    latent: (N, C, S, S) float32, the picture so far; may be replaced between steps
    nbytes: memory it holds
    """

    @property
    def latent(self) -> Tensor: ...

    @latent.setter
    def latent(self, latent: Tensor) -> None: ...

    @property
    def nbytes(self) -> int: ...

    def select(self, tiles: slice) -> TileState:
        """A state of some of the tiles, which shares no memory with this one."""
        ...

    def to(self, device: torch.device) -> TileState:
        """The same state elsewhere."""
        ...

    def rewind(self, k: int) -> None:
        """Forgets whatever a step k that failed has left behind."""


class KeepsLatents:
    """What states have in common that keep the latent after each step, behind the one that starts:
    a step that failed is wound back to the one before."""

    latents: list[Tensor]

    @property
    def latent(self) -> Tensor:
        """The picture so far. May be replaced between steps, e.g. to bring tiles together."""
        return self.latents[-1]

    @latent.setter
    def latent(self, latent: Tensor) -> None:
        self.latents[-1] = latent


State = TypeVar("State", bound=TileState)


class TileWork(Protocol[State]):
    """What is done to tiles, which are numbered through all pictures; see TileIndex."""

    @property
    def steps(self) -> int:
        """How many steps a tile takes."""
        ...

    @property
    def settled(self) -> int:
        """How many first steps have their latents given, on which neighbours are one already."""
        ...

    @property
    def starting(self) -> Task | None:
        """What `start` does; None where that is next to nothing."""
        ...

    @property
    def wider(self) -> TileWork[State] | None:
        """The same work in a dtype in which nothing overflows, for tiles that did; None if it is in
        one. `start` and `step` are run while weights are cast."""
        ...

    def task(self, k: int) -> Task:
        """What step k does."""
        ...

    def start(self, numbers: Sequence[int]) -> State:
        """The state of some tiles before step 0, on the device."""
        ...

    def step(self, state: State, numbers: Sequence[int], k: int) -> None:
        """Does step k of 0 .. steps - 1; after a failure the state is rewound to k."""

    def finish(self, state: State, numbers: Sequence[int]) -> None:
        """Keeps what is wanted of tiles that took their last step, beside their latents."""


Work = TypeVar("Work", bound=TileWork[Any])


def changed(work: Work, **parts: object) -> Work:
    """The same work, some of whose attributes are others."""
    other = copy.copy(work)
    vars(other).update(parts)
    return other
