"""How work is run: on which device, how many tiles at once, and what if memory is short."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from . import kept
from .progress import DrawFn, Progress, ProgressFn, Stage, silent
from .work import Calls, Task, followed

Result = TypeVar("Result")
Plan = Iterable[tuple[Task, int]]
"""Tasks, and on how many tiles each."""

MAX_TILES_AT_ONCE = 16  # more brings no speed, and progress would come in jumps
SHORTAGES = (  # in lower case, what torch and the libraries under it say
    *("defaultcpuallocator", "out of memory", "out_of_memory", "outofmemory"),
    *("alloc_failed", "allocfailed", "allocation_failed", "out_of_device_memory"),
)
CARD_SHARE = 0.75  # of a card that weights and tiles may fill; the rest is for other programs
FREE_SHARE = 0.9  # of what is free beside the weights; the rest is for what estimates miss

logger = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of plain torch, or one that led to it, means that a smaller batch may fit.

    An error within the recording of a CUDA graph is followed by another one, of the recording.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if not isinstance(error, RuntimeError):
        return False
    told, before = str(error).lower(), error.__cause__ or error.__context__
    shortage = any(text in told for text in SHORTAGES)
    return shortage or (before is not None and is_out_of_memory(before))


def tiles_at_once(tile_bytes: int, weight_bytes: int, card_bytes: int | None) -> int:
    """How many tiles to work on at once: it may show in the last bits, so it is always the same.

    Not by the memory that happens to be free, but by what does not change from run to run.

    tile_bytes:   memory that work on one tile takes beside the weights
    weight_bytes: of the whole model, wherever it lies
    card_bytes:   all memory of the device; None for a CPU
    """
    if card_bytes is None:
        return 1  # more at once is hardly faster there, and one by one gives equal bits
    room = card_bytes * CARD_SHARE - weight_bytes
    return min(max(int(room / tile_bytes), 1), MAX_TILES_AT_ONCE)


def halved_to_fit(tiles: int, tile_bytes: int, free_bytes: int | None) -> int:
    """The number, halved until so many tiles fit into free memory, down to one.

    free_bytes: of the device, beside the weights; None for a CPU
    """
    fitting = tiles
    while fitting > 1 and free_bytes is not None and fitting * tile_bytes > free_bytes * FREE_SHARE:
        fitting //= 2
    if fitting < tiles:
        _tell_fewer(tiles, fitting)
    return fitting


def _tell_fewer(tiles: int, fitting: int) -> None:
    logger.warning(
        "memory is short: tiles at once are reduced from %d to %d; the last bits of the picture "
        "may differ from those of other runs with the same seed",
        tiles,
        fitting,
    )


@dataclass(frozen=True)
class Execution:
    """The caller's device and services.

    device:           where tiles are worked on; the model must be there
    prepare:          called when the input was found good and work begins: says how many tiles to
                      work on at once; that number is halved when memory runs out, down to one
    make_room:        called then with how many will be, of those there are: brings the model to the
                      device with room for them, and says for how many it suffices
    on_progress:      called as work goes on; may raise to cancel
    is_out_of_memory: tells whether an error is worth a retry with fewer tiles
    free_memory:      called before such a retry
    pictures:         whether on_progress wants previews of the picture so far
    spare_bytes:      system memory that states of tiles may be parked in, or None where unknown
    """

    device: torch.device = torch.device("cpu")
    prepare: Callable[[], int] = lambda: 1
    make_room: Callable[[int], int] = lambda tiles: tiles
    on_progress: ProgressFn = silent
    is_out_of_memory: Callable[[Exception], bool] = is_out_of_memory
    free_memory: Callable[[], None] = lambda: None
    pictures: bool = False
    spare_bytes: Callable[[], int | None] = lambda: None


class Session:
    """One call's work on the caller's device.

    size:  how many tiles are worked on at once; begins at what `prepare` said, and only shrinks
    total: units of all tasks that are announced, for progress; done: of those that are finished
    tiles: of all pictures, for progress; 0 where work has no steps
    """

    def __init__(
        self, execution: Execution, plan: Plan = (), tiles: int = 0, most: int | None = None
    ) -> None:
        """most: tiles there are to work on, if not told by the plan"""
        plan = list(plan)
        self.execution = execution
        self.device = execution.device
        self.total = sum(times * self.units(task) for task, times in plan)
        self.tiles = tiles
        self.size = max(1, execution.prepare())
        there_are = most or max((times for _, times in plan), default=self.size)
        wanted = min(self.size, max(1, there_are))
        fitting = execution.make_room(wanted)
        if fitting < wanted:
            self.size = max(1, fitting)
        self.done = self._told = 0
        self._gave_up = False

    def units(self, task: Task) -> int:
        """Work of a task on one tile, on this device."""
        return task.units(self.device.type)

    @contextmanager
    def doing(
        self,
        task: Task,
        times: int = 1,
        *,
        units: int | None = None,
        step: int | None = None,
        draw: DrawFn | None = None,
    ) -> Iterator[None]:
        """Tells that work on so many tiles begins, that it goes on, and that it has ended.

        Whoever listens may raise to cancel. After an error the work counts as not begun; the bar,
        which never goes back, waits until it is done again.

        units: that all of it counts for in the total, if not those of `times` tasks
        step, draw: told at the end, see Progress
        """
        whole = times * self.units(task) if units is None else units
        kind, stage, so_far = self.device.type, task.stage, 0
        share, most = whole / self.units(task), max(whole - 1, 0)

        def went_on(part: Calls) -> None:
            nonlocal so_far
            so_far += part.units(kind)
            self._tell(self.done + min(int(so_far * share), most), stage)

        self._tell(self.done, stage)
        with followed(task.parts, went_on):
            yield
        self.done += whole
        self._tell(self.done, stage, step, times, draw)

    def undo(self, tasks: Iterable[Task], tiles: int) -> None:
        """Work that was done on so many tiles is to be done again; the bar waits until it is."""
        self.done -= tiles * sum(map(self.units, tasks))

    def _tell(
        self,
        done: int,
        stage: Stage,
        step: int | None = None,
        times: int = 0,
        draw: DrawFn | None = None,
    ) -> None:
        self._told = max(self._told, done)
        stepped = 0 if step is None else times
        told = Progress(self._told, self.total, stage, self.tiles, step, stepped, draw)
        self.execution.on_progress(told)

    def attempt(self, tiles: int, work: Callable[[], None]) -> bool:
        """Does `work` on some tiles; False when memory ran out and fewer may fit, which it notes.

        With one tile, it is False once, if something was kept for speed and is now given up. Then
        the error is the caller's: nothing smaller can be tried.
        """
        try:
            work()
        except Exception as error:
            if not self.execution.is_out_of_memory(error):
                raise
            if tiles == 1 and (self._gave_up or not kept.kept_bytes(self.device)):
                raise torch.OutOfMemoryError(
                    "Memory does not suffice for a single tile, the least that can be worked on. "
                    "Close other programs, unload other models, or load this one in a lower "
                    f"precision. ({error})"
                ) from error
            self.size = min(self.size, max(tiles // 2, 1))
            if tiles > 1:
                _tell_fewer(tiles, self.size)
        else:
            return True
        # Outside the except clause, where the error no longer holds the tensors that filled memory.
        kept.give_up()
        self._gave_up = True
        self.execution.free_memory()
        return False

    def single(self, work: Callable[[], Result]) -> Result:
        """Does work that cannot be divided; out of memory is an error that tells what to try."""
        found: list[Result] = []
        while not self.attempt(1, lambda: found.append(work())):
            pass
        return found[0]

    def run(
        self, tiles: int, task: Task, work: Callable[[slice], None], units: int | None = None
    ) -> None:
        """Runs `work` on consecutive blocks of tiles, smaller ones where memory runs out.

        task:  on each of them
        work:  gets the tiles of its block; what it kept before is done anew after a retry
        units: that all of it counts for in the total, if not those of the tasks
        """
        whole = tiles * self.units(task) if units is None else units

        def do(part: slice) -> None:
            share = whole * part.stop // tiles - whole * part.start // tiles
            with self.doing(task, part.stop - part.start, units=share):
                work(part)

        start = 0
        while start < tiles:
            part = slice(start, min(start + self.size, tiles))
            if self.attempt(part.stop - part.start, partial(do, part)):
                start = part.stop
