"""Tiles on their way through the steps together; see `scheduler.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .consistency import Given
from .tile_work import TileState, TileWork


@dataclass
class Block:
    """Tiles that run together, from step k on; without a state they have not started.

    made:  latents of the last steps that are not recorded yet
    given: what finished neighbours give at every step that is not settled; once that is known
    overflowed: tiles among them that are no numbers any more
    wider:   what works on these instead, from the first step on
    repeats: how many first steps that is done to again
    """

    numbers: list[int]
    state: TileState | None = None
    k: int = 0
    made: list[Tensor] = field(default_factory=list)
    given: tuple[Given | None] | None = None
    overflowed: set[int] = field(default_factory=set)
    wider: TileWork[Any] | None = None
    repeats: int = 0

    def divided(self, size: int) -> Iterator[Block]:
        """One block of `size` and the rest, or, of a block under way, two halves."""
        size = size if self.state is None else len(self.numbers) // 2
        yield from map(self.part, (slice(size), slice(size, None)))

    def part(self, tiles: slice) -> Block:
        state = None if self.state is None else self.state.select(tiles)
        made, numbers = [latent[tiles].clone() for latent in self.made], self.numbers[tiles]
        overflowed = self.overflowed.intersection(numbers)
        return replace(
            self, numbers=numbers, state=state, made=made, given=None, overflowed=overflowed
        )

    def sound(self) -> Iterator[Block]:
        """Those of its tiles that did not overflow."""
        if not self.overflowed:
            yield self
            return
        start = 0
        for stop, number in enumerate([*self.numbers, None]):
            if number is None or number in self.overflowed:
                if start < stop:
                    yield self.part(slice(start, stop))
                start = stop + 1

    def move(self, state: TileState, device: torch.device) -> TileState:
        """Moves the block, whose state it is, and returns it there."""
        self.state = state = state.to(device)
        self.made = [latent.to(state.latent.device) for latent in self.made]
        return state

    def rewind(self) -> None:
        if self.state is not None:
            self.state.rewind(self.k)
