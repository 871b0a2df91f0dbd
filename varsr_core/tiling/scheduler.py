"""The one loop that takes tiles through their steps, for every family and for the staged nodes.

It binds together which tiles run at once (memory decides), in which order (the mode decides), how
neighbours blend after each step, and how to go on when memory runs out half-way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.execution import Session
from .consistency import Overlaps, TilingMode
from .grid import TileGrid, TileIndex
from .overflow import check_latents
from .preview import Preview

CPU = torch.device("cpu")


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

    def describe(self, k: int) -> str:
        """What step k does, in the user's words."""
        ...

    def start(self, numbers: Sequence[int]) -> State:
        """The state of some tiles before step 0, on the device."""
        ...

    def step(self, state: State, numbers: Sequence[int], k: int) -> None:
        """Does step k of 0 .. steps - 1; after a failure the state is rewound to k."""

    def finish(self, state: State, numbers: Sequence[int]) -> None:
        """Keeps what is wanted of tiles that took their last step, beside their latents."""


@dataclass
class _Block:
    """Tiles that run together, from step k on; without a state they have not started."""

    numbers: list[int]
    state: TileState | None = None
    k: int = 0

    def divided(self, size: int) -> Iterator[_Block]:
        """One block of `size` and the rest, or, of a block under way, two halves."""
        size = size if self.state is None else len(self.numbers) // 2
        for tiles in (slice(size), slice(size, None)):
            state = None if self.state is None else self.state.select(tiles)
            yield _Block(self.numbers[tiles], state, self.k)

    def move(self, device: torch.device) -> None:
        if self.state is not None:
            self.state = self.state.to(device)

    def rewind(self) -> None:
        if self.state is not None:
            self.state.rewind(self.k)


class TileLoop:
    """Runs `work` on all tiles of some pictures.

    grids:   of each picture, in cells of the latent
    wanted:  numbers of the tiles to run, if not all; others are left alone, and nobody's neighbours
    preview: painted after every step, for those who watch
    latents: per step (tiles of all pictures, C, S, S) float32 on the CPU; zeros where not wanted
    """

    def __init__(
        self,
        work: TileWork[Any],
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
        self.overlaps = [by_grid[grid] for grid in grids]
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
                advance = partial(self._advance, until=self.work.steps)
                for block in self._attempted([_Block(numbers)], advance):
                    self._finished.update(block.numbers)
        return self.latents

    def _run_in_lock_step(self) -> None:
        """All tiles take a step, are blended, take the next."""
        size = self.session.size
        blocks = [_Block(self.wanted[i : i + size]) for i in range(0, len(self.wanted), size)]
        for k in range(self.work.steps):
            blocks = list(self._attempted(blocks, partial(self._advance, until=k + 1)))
            if k >= self.work.settled:
                self._blend(blocks, k)

    def _phases(self) -> Iterator[list[int]]:
        """Tiles that may run together: the first phase of every picture, the second, and so on."""
        if self.mode == "independent":
            yield self.wanted
            return
        phase_of = {
            self.tiles.of(picture)[index]: number
            for picture, overlaps in enumerate(self.overlaps)
            for number, phase in enumerate(overlaps.phases)
            for index in phase
        }
        for phase in range(max(phase_of.values()) + 1):
            numbers = [number for number in self.wanted if phase_of[number] == phase]
            if numbers:
                yield numbers

    def _attempted(
        self, blocks: Sequence[_Block], advance: Callable[[_Block], None]
    ) -> Iterator[_Block]:
        """Advances blocks in turn and yields each when it is done.

        A block that is too large is divided; so is one that ran out of memory, which is rewound
        first and goes on from where it stood.
        """
        waiting = deque(blocks)
        while waiting:
            block = waiting.popleft()
            if len(block.numbers) > self.session.size:
                block.move(CPU)
                waiting.extendleft(reversed([*block.divided(self.session.size)]))
            elif self.session.attempt(len(block.numbers), partial(advance, block)):
                yield block
            else:
                block.rewind()
                waiting.appendleft(block)

    def _advance(self, block: _Block, until: int) -> None:
        """Takes a block on the device up to step `until`, from wherever it stands.

        Finished, it gives up its state. Before that, the state waits for other blocks elsewhere.
        """
        state = self._enter(block)
        while block.k < until:
            self._step(block, state)
        if until == self.work.steps:
            self.work.finish(state, block.numbers)
            block.state = None
        elif len(block.numbers) < len(self.wanted):
            block.move(CPU)

    def _enter(self, block: _Block) -> TileState:
        state = block.state
        if state is None:
            block.state = state = self.work.start(block.numbers)
            self._check_room(len(block.numbers), state)
        block.state = state = state.to(self.session.device)
        return state

    def _check_room(self, tiles: int, state: TileState) -> None:
        """Refuses lock-step, before much time is spent, where states of all tiles do not fit."""
        if self.mode != "lock-step" or self.latents or tiles == len(self.wanted):
            return
        needed = state.nbytes // tiles * len(self.wanted)
        spare = self.session.execution.spare_bytes()
        if spare is not None and needed > spare:
            raise InputError(
                f"lock-step keeps the state of all {len(self.wanted)} tiles, "
                f"{needed / 1e9:.1f} GB, and {spare / 1e9:.1f} GB of system memory are free. "
                "Choose phased tiling, or a smaller output."
            )

    def _step(self, block: _Block, state: TileState) -> None:
        """One step, what is taken over from neighbours, and the record: all of it, or none."""
        k = block.k
        self.work.step(state, block.numbers, k)
        if self.mode == "phased" and k >= self.work.settled and not self.alone:
            state.latent = self._taken_over(block, state.latent)
        while len(self.latents) <= k:
            self.latents.append(torch.zeros(len(self.tiles), *state.latent.shape[1:]))
        latent = state.latent.to(CPU)
        check_latents(latent, block.numbers, self.tiles, self.work.describe(k))
        self.latents[k][block.numbers] = latent
        block.k += 1
        picture = None
        if self.preview is not None:
            picture = self.preview.painted(block.numbers, self.latents[k][block.numbers])
        self.session.report(len(block.numbers), self.work.describe(k), k, picture)

    def _taken_over(self, block: _Block, latent: Tensor) -> Tensor:
        """The block's latents with what finished neighbours made in the same step."""
        tiles = []
        for own, number in zip(latent.to(CPU), block.numbers, strict=True):
            picture, index = self.tiles.locate(number)
            numbers, overlaps = self.tiles.of(picture), self.overlaps[picture]
            finished = {
                other: self.latents[block.k][numbers[other]]
                for other in overlaps.neighbours(index)
                if numbers[other] in self._finished
            }
            tiles.append(overlaps.take_over(own, index, finished))
        return torch.stack(tiles).to(latent.device)

    def _blend(self, blocks: Sequence[_Block], k: int) -> None:
        """Every tile gets the latent that all tiles of its picture make together."""
        latents = self.latents[k]
        wanted: list[list[int]] = [[] for _ in self.overlaps]
        for number in self.wanted:
            picture, index = self.tiles.locate(number)
            wanted[picture].append(index)
        for picture, (overlaps, indices) in enumerate(zip(self.overlaps, wanted, strict=True)):
            numbers = self.tiles.of(picture)
            own = latents[numbers.start : numbers.stop]
            if indices:
                own[indices] = overlaps.blend(own, indices)
        for block in blocks:
            if block.state is not None:
                block.state.latent = latents[block.numbers].to(block.state.latent)
