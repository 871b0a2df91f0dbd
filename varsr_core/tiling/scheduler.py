"""The one loop that takes tiles through their steps, for every family and for the staged nodes.

What is bound together: which tiles run at once (memory decides), in which order (the mode decides),
what neighbours share after each step, and how to go on when memory runs out half-way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.execution import Session
from .consistency import Overlaps, TilingMode
from .grid import TileGrid, TileIndex
from .preview import Preview

CPU = torch.device("cpu")


class TileState(Protocol):
    """Tiles on their way.

    latent: (N, C, S, S) float32, the picture so far; may be replaced between steps
    nbytes: memory it holds
    """

    latent: Tensor

    @property
    def nbytes(self) -> int: ...

    def select(self, tiles: slice) -> TileState:
        """A state of some of the tiles, which shares no memory with this one."""

    def to(self, device: torch.device) -> TileState:
        """The same state elsewhere."""

    def rewind(self, k: int) -> None:
        """Forgets whatever a step k that failed has left behind."""


State = TypeVar("State", bound=TileState)


class TileWork(Protocol[State]):
    """What is done to tiles, which are numbered through all pictures; see TileIndex.

    steps:   how many steps a tile takes
    settled: of these, how many first ones have their latents given; neighbours agree already
    """

    steps: int
    settled: int

    def describe(self, k: int) -> str:
        """What step k does, in the user's words."""

    def start(self, numbers: Sequence[int]) -> State:
        """The state of some tiles before step 0, on the device."""

    def step(self, state: State, numbers: Sequence[int], k: int) -> None:
        """Does step k of 0 .. steps - 1; after a failure the state is rewound to k."""

    def finish(self, state: State, numbers: Sequence[int]) -> None:
        """Keeps what is wanted of tiles that took their last step, beside their latents."""


@dataclass
class _Block:
    """Tiles that run together, from step k on; without a state they have not started."""

    numbers: list[int]
    state: Any = None
    k: int = 0

    def halves(self) -> tuple[_Block, _Block]:
        middle = len(self.numbers) // 2
        parts = slice(middle), slice(middle, len(self.numbers))
        if self.state is None:
            return tuple(_Block(self.numbers[part]) for part in parts)
        return tuple(_Block(self.numbers[p], self.state.select(p), self.k) for p in parts)

    def move(self, device: torch.device) -> None:
        if self.state is not None:
            self.state = self.state.to(device)


class TileLoop:
    """Runs `work` on all tiles of some pictures; `latents` has what each step made.

    grids:   of each picture, in cells of the latent
    wanted:  numbers of the tiles to run, if not all; others are left alone, and nobody's neighbours
    preview:  painted after every step, for those who watch
    latents: per step (tiles of all pictures, C, S, S) float32 on the CPU; zeros where not wanted
    """

    def __init__(
        self,
        work: TileWork,
        grids: Sequence[TileGrid],
        mode: TilingMode,
        session: Session,
        wanted: Sequence[int] | None = None,
        preview: Preview | None = None,
    ) -> None:
        self.preview = preview
        self.work, self.session, self.mode = work, session, mode
        self.tiles = TileIndex(grids)
        by_grid = {grid: Overlaps(grid) for grid in grids}
        self.around = [by_grid[grid] for grid in grids]
        self.alone = all(len(grid) == 1 for grid in by_grid)
        self.wanted = list(range(len(self.tiles)) if wanted is None else wanted)
        self.latents: list[Tensor] = []
        self._finished: set[int] = set()

    def run(self) -> list[Tensor]:
        """Takes all tiles through all steps; returns `latents`."""
        if self.mode == "lock-step" and self.wanted:
            self._run_in_lock_step()
        elif self.wanted:
            for numbers in self._phases():
                self._run_phase(numbers)
        return self.latents

    def _phases(self) -> Iterator[list[int]]:
        """Tiles that may run together: the first phase of every picture, the second, and so on."""
        if self.mode == "independent":
            yield self.wanted
            return
        phase_of = {
            self.tiles.of(picture)[index]: number
            for picture, around in enumerate(self.around)
            for number, phase in enumerate(around.phases)
            for index in phase
        }
        for phase in range(max(phase_of.values()) + 1):
            yield [number for number in self.wanted if phase_of[number] == phase]

    def _run_phase(self, numbers: list[int]) -> None:
        waiting = [_Block(numbers)] if numbers else []
        while waiting:
            block = waiting.pop(0)
            if len(block.numbers) > self.session.size:
                waiting[:0] = self._divide(block)
                continue
            if not self.session.attempt(
                len(block.numbers), lambda block=block: self._advance(block)
            ):
                self._rewind(block)
                waiting.insert(0, block)
                continue
            self._finished.update(block.numbers)

    def _divide(self, block: _Block) -> tuple[_Block, ...]:
        """One block of the right size and the rest, or, of a block under way, two halves."""
        if block.state is None:
            size = self.session.size
            return _Block(block.numbers[:size]), _Block(block.numbers[size:])
        block.move(CPU)
        return block.halves()

    def _advance(self, block: _Block) -> None:
        """From where the block stands to its last step."""
        self._enter(block)
        while block.k < self.work.steps:
            self._step(block)
        self.work.finish(block.state, block.numbers)

    def _run_in_lock_step(self) -> None:
        """All tiles take a step, are brought together, take the next."""
        size = self.session.size
        blocks = [_Block(self.wanted[i : i + size]) for i in range(0, len(self.wanted), size)]
        for k in range(self.work.steps):
            done = []
            while blocks:
                block = blocks.pop(0)
                if len(block.numbers) > self.session.size:
                    blocks[:0] = self._divide(block)
                    continue
                if not self.session.attempt(
                    len(block.numbers), lambda block=block, k=k: self._step_and_leave(block, k)
                ):
                    self._rewind(block)
                    blocks.insert(0, block)
                    continue
                done.append(block)
            blocks = done
            if k >= self.work.settled:
                self._meet(blocks, k)

    def _step_and_leave(self, block: _Block, k: int) -> None:
        """Step k of one block; if there are others, its state waits for them off the device."""
        self._enter(block)
        if block.k == k:  # not taken yet, before memory ran out in what follows
            self._step(block)
        if block.k == self.work.steps:
            self.work.finish(block.state, block.numbers)
            block.state = None
        elif len(block.numbers) < len(self.wanted):
            block.move(CPU)

    def _meet(self, blocks: list[_Block], k: int) -> None:
        """Every tile gets the picture that all tiles of its picture make together."""
        latents = self.latents[k]
        wanted: list[list[int]] = [[] for _ in self.around]
        for number in self.wanted:
            picture, index = self.tiles.locate(number)
            wanted[picture].append(index)
        for picture, (around, indices) in enumerate(zip(self.around, wanted, strict=True)):
            numbers = self.tiles.of(picture)
            own = latents[numbers.start : numbers.stop]
            if indices:
                own[indices] = around.blend(own, indices)
        for block in blocks:
            if block.state is not None:
                block.state.latent = latents[block.numbers].to(block.state.latent)

    def _enter(self, block: _Block) -> None:
        if block.state is None:
            block.state = self.work.start(block.numbers)
            self._check_room(block)
        block.move(self.session.device)

    def _check_room(self, block: _Block) -> None:
        """Refuses lock-step, before much time is spent, where states of all tiles do not fit."""
        if self.mode != "lock-step" or self.latents or len(block.numbers) == len(self.wanted):
            return
        needed = block.state.nbytes // len(block.numbers) * len(self.wanted)
        spare = self.session.execution.spare_bytes()
        if spare is not None and needed > spare:
            raise InputError(
                f"lock-step keeps the state of all {len(self.wanted)} tiles, "
                f"{needed / 1e9:.1f} GB, and {spare / 1e9:.1f} GB of system memory are free. "
                "Choose phased tiling, or a smaller output."
            )

    def _step(self, block: _Block) -> None:
        """One step, what neighbours share of it, and the record: all of it, or none."""
        k = block.k
        self.work.step(block.state, block.numbers, k)
        if self.mode == "phased" and k >= self.work.settled and not self.alone:
            block.state.latent = self._agreed(block)
        self._record(block)
        block.k += 1
        picture = None
        if self.preview is not None:
            picture = self.preview.painted(block.numbers, self.latents[k][block.numbers])
        self.session.report(len(block.numbers), self.work.describe(k), k, picture)

    def _rewind(self, block: _Block) -> None:
        if block.state is not None:
            block.state.rewind(block.k)

    def _agreed(self, block: _Block) -> Tensor:
        """The block's latents with what finished neighbours made after the same step."""
        latent = block.state.latent.to(CPU)
        agreed = []
        for own, number in zip(latent, block.numbers, strict=True):
            picture, index = self.tiles.locate(number)
            given = self._given(picture, index, block.k)
            agreed.append(self.around[picture].take_over(own, index, given))
        return torch.stack(agreed).to(block.state.latent.device)

    def _given(self, picture: int, index: int, k: int) -> dict[int, Tensor]:
        """What finished neighbours of a tile made in step k, by their place in the picture."""
        numbers = self.tiles.of(picture)
        return {
            other: self.latents[k][numbers[other]]
            for other in self.around[picture].neighbours(index)
            if numbers[other] in self._finished
        }

    def _record(self, block: _Block) -> None:
        latent = block.state.latent
        while len(self.latents) <= block.k:
            self.latents.append(torch.zeros(len(self.tiles), *latent.shape[1:]))
        self.latents[block.k][block.numbers] = latent.to(CPU)
