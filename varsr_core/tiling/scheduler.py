"""The one loop that takes tiles through their steps, for every family and for the staged nodes.

It binds together which tiles run at once (memory decides), in which order (the mode decides), how
neighbours blend after each step, and how to go on when memory runs out half-way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.execution import Session
from ..runtime.transfer import CPU, brought
from .block import Block
from .consistency import Given, Overlaps, TilingMode, together
from .grid import TileGrid, TileIndex
from .overflow import again, overflowed
from .preview import TilePreview
from .record import Record
from .steady import Frame
from .tile_work import TileState, TileWork


class TileLoop:
    """Runs `work` on all tiles of some pictures.

    grids:   of each picture, in cells of the latent
    wanted:  numbers of the tiles to run, if not all; others are left alone, and nobody's neighbours
    preview: told of what every step makes, for those who watch
    frame:   what tiles take over from the frame before, where the picture is one of a film
    """

    def __init__(
        self,
        work: TileWork[Any],
        grids: Sequence[TileGrid],
        mode: TilingMode,
        session: Session,
        wanted: Sequence[int] | None = None,
        preview: TilePreview | None = None,
        frame: Frame | None = None,
    ) -> None:
        self.preview, self.frame = preview, frame
        self.work, self.session, self.mode = work, session, mode
        self.tiles = TileIndex(grids)
        by_grid = {grid: Overlaps(grid) for grid in grids}
        self.overlaps = [by_grid[grid] for grid in grids]
        self.alone = all(len(grid) == 1 for grid in by_grid)
        self.wanted = list(range(len(self.tiles)) if wanted is None else wanted)
        self.record = Record(len(self.tiles), work.steps)
        self._finished: set[int] = set()

    def run(self) -> list[Tensor]:
        """Takes all tiles through all steps.

        returns latents per step, (tiles of all pictures, C, S, S) float32; zeros where not wanted;
                nothing where no tile is. On the device, or, where they are many, on the CPU
        """
        if self.mode == "lock-step" and self.wanted:
            self._run_in_lock_step()
        elif self.wanted:
            for numbers in self._phases():
                advance = partial(self._advance, until=self.work.steps)
                for block in self._attempted([Block(numbers)], advance):
                    self._finished.update(block.numbers)
        return self.record.taken() if self.wanted else []

    def _run_in_lock_step(self) -> None:
        """All tiles take a step, are blended, take the next."""
        size = self.session.size
        blocks = [Block(self.wanted[i : i + size]) for i in range(0, len(self.wanted), size)]
        for k in range(self.work.steps):
            blocks = list(self._attempted(blocks, partial(self._advance, until=k + 1)))
            if k >= self.work.settled:
                self._blend(blocks, k)
                if self.preview is not None:
                    self.preview.note(self.wanted, self.record.made[k])

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
            if numbers := [number for number in self.wanted if phase_of[number] == phase]:
                yield numbers

    def _attempted(
        self, blocks: Sequence[Block], advance: Callable[[Block], None]
    ) -> Iterator[Block]:
        """Advances blocks in turn and yields each when it is done.

        A block that is too large is divided; so is one that ran out of memory, which is rewound
        first and goes on from where it stood.
        """
        waiting = deque(blocks)
        while waiting:
            block = waiting.popleft()
            if len(block.numbers) > self.session.size:
                if block.state is not None:
                    block.move(block.state, CPU)
                waiting.extendleft(reversed([*block.divided(self.session.size)]))
            elif self.session.attempt(len(block.numbers), partial(advance, block)):
                if block.overflowed:
                    waiting.appendleft(self._once_more(block))
                yield from block.sound()
            else:
                block.rewind()
                waiting.appendleft(block)

    def _once_more(self, block: Block) -> Block:
        """A block of the tiles that overflowed, which begins anew in a wider dtype."""
        numbers = [number for number in block.numbers if number in block.overflowed]
        done = [self.work.task(k) for k in range(block.k)]
        self.session.undo([self.work.starting, *done] if self.work.starting else done, len(numbers))
        return Block(numbers, wider=self.work.wider, repeats=block.k)

    def _worker(self, block: Block) -> tuple[TileWork[Any], AbstractContextManager[None]]:
        """Who works on a block, and while what lasts."""
        return (block.wider, again()) if block.wider else (self.work, nullcontext())

    def _advance(self, block: Block, until: int) -> None:
        """Takes a block on the device up to step `until`, from wherever it stands.

        Finished, it gives up its state. Before that, the state waits for other blocks elsewhere.
        """
        state = self._enter(block)
        while block.k < until:
            self._step(block, state)
        self._record(block)
        if until == self.work.steps:
            self.work.finish(state, block.numbers)
            block.state = None
        elif len(block.numbers) < len(self.wanted):
            block.move(state, CPU)

    def _enter(self, block: Block) -> TileState:
        state = block.state
        if state is None:
            tiles, starting = len(block.numbers), self.work.starting
            work, how = self._worker(block)
            with self.session.doing(starting, tiles) if starting else nullcontext(), how:
                block.state = state = work.start(block.numbers)
                self._check_room(tiles, state)
        return block.move(state, self.session.device)

    def _check_room(self, tiles: int, state: TileState) -> None:
        """Refuses lock-step, before much time is spent, where states of all tiles do not fit."""
        if self.mode != "lock-step" or self.record.made[0] or tiles == len(self.wanted):
            return
        needed = state.nbytes // tiles * len(self.wanted)
        spare = self.session.execution.spare_bytes()
        if spare is not None and needed > spare:
            raise InputError(
                f"lock-step keeps the state of all {len(self.wanted)} tiles, "
                f"{needed / 1e9:.1f} GB, and {spare / 1e9:.1f} GB of system memory are free. "
                "Choose phased tiling, or a smaller output."
            )

    def _step(self, block: Block, state: TileState) -> None:
        """One step, what is taken over from neighbours, and the record: all of it, or none."""
        k, (work, how) = block.k, self._worker(block)
        told = None if k < block.repeats else k
        draw = None if self.preview is None else partial(self.preview.drawn, block.numbers[0])
        with self.session.doing(work.task(k), len(block.numbers), step=told, draw=draw):
            with how:
                work.step(state, block.numbers, k)
            if self.frame is not None:
                state.latent = self.frame.over(state.latent, block.numbers, k)
            if self.mode == "lock-step" and k + 1 < block.repeats:  # as all tiles agreed on it
                agreed = torch.stack([self.record.made[k][number] for number in block.numbers])
                state.latent = agreed.to(state.latent.device)
            if self.mode == "phased" and k >= self.work.settled and not self.alone:
                given = self._given(block, state.latent.device)
                if given is not None:
                    state.latent = given.over(state.latent, k - self.work.settled)
            block.made.append(state.latent)
            block.k += 1
            if state.latent.device == CPU:  # where it costs no wait, faults show at once
                self._record(block)
            elif self.preview is not None:
                latents = zip(block.numbers, state.latent, strict=True)
                self.preview.note(block.numbers, dict(latents))

    def _record(self, block: Block) -> None:
        """Of all that a block has made since the last time."""
        if not block.made:
            return
        first = block.k - len(block.made)
        for number, k in self.record.add(first, block.numbers, torch.stack(block.made)):
            if block.wider or self.work.wider is None:
                raise overflowed(number, self.tiles, str(self.work.task(k).stage))
            block.overflowed.add(number)
        block.made.clear()
        if self.preview is not None:
            sound = [number for number in block.numbers if number not in block.overflowed]
            self.preview.note(sound, self.record.made[block.k - 1])

    def _given(self, block: Block, device: torch.device) -> Given | None:
        """What the block's tiles take over from finished neighbours; made once, for all steps."""
        if block.given is None:
            tiles = []
            for picture, index in map(self.tiles.locate, block.numbers):
                finished = self._finished_around(picture, index, device)
                tiles.append(self.overlaps[picture].given(index, finished))
            block.given = (together(tiles),)
        return block.given[0]

    def _finished_around(self, picture: int, index: int, device: torch.device) -> dict[int, Tensor]:
        """Finished neighbours of a tile, (steps that are not settled, C, S, S)."""
        numbers, steps = self.tiles.of(picture), self.record.made[self.work.settled :]
        return {
            other: brought(torch.stack([made[numbers[other]] for made in steps]), device)
            for other in self.overlaps[picture].neighbours(index)
            if numbers[other] in self._finished
        }

    def _blend(self, blocks: Sequence[Block], k: int) -> None:
        """Every tile gets the latent that all tiles of its picture make together."""
        made = self.record.made[k]
        none = torch.zeros_like(made[self.wanted[0]])
        for picture, overlaps in enumerate(self.overlaps):
            numbers = self.tiles.of(picture)
            wanted = [index for index, number in enumerate(numbers) if number in made]
            if wanted:
                own = torch.stack([made.get(number, none) for number in numbers])
                blended = overlaps.blend(own, wanted)
                made.update(zip((numbers[index] for index in wanted), blended, strict=True))
        for block in blocks:
            if block.state is not None:
                block.state.latent = torch.stack([made[number] for number in block.numbers])
