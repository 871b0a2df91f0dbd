"""How work is run: on which device, how many tiles at once, and what if memory is short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .progress import Progress, ProgressFn, silent

Result = TypeVar("Result")
ReportFn = Callable[[str], None]

MAX_TILES_AT_ONCE = 16  # more brings no speed, and progress would come in jumps
FREE_SHARE = 0.8  # of free memory that tiles may fill; the rest is for what estimates miss


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of plain torch means that a smaller batch may fit."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("DefaultCPUAllocator", "out of memory"))
    )


def tiles_at_once(tile_bytes: int, free_bytes: int | None) -> int:
    """How many tiles to begin with, whoever the caller is: it may show in the last bits.

    tile_bytes: memory that work on one tile takes beside the weights
    free_bytes: free memory of the device; None for a CPU
    """
    if free_bytes is None:
        return 1  # more at once is hardly faster there, and one by one gives equal bits
    return min(max(int(free_bytes * FREE_SHARE / tile_bytes), 1), MAX_TILES_AT_ONCE)


@dataclass(frozen=True)
class Execution:
    """The caller's device and services.

    device:           where tiles are worked on; the model must be there
    prepare:          called when the input was found good and work begins: brings the model to the
                      device and says how many tiles to work on at once; that number is halved when
                      memory runs out, down to one
    on_progress:      called after every piece of work; may raise to cancel
    is_out_of_memory: tells whether an error is worth a retry with fewer tiles
    free_memory:      called before such a retry
    pictures:         whether on_progress wants previews of the picture so far
    spare_bytes:      system memory that states of tiles may be parked in, or None where unknown
    """

    device: torch.device = torch.device("cpu")
    prepare: Callable[[], int] = lambda: 1
    on_progress: ProgressFn = silent
    is_out_of_memory: Callable[[Exception], bool] = is_out_of_memory
    free_memory: Callable[[], None] = lambda: None
    pictures: bool = False
    spare_bytes: Callable[[], int | None] = lambda: None


class Session:
    """One call's work on the caller's device.

    size:  how many tiles are worked on at once; begins at what `prepare` said, and only shrinks
    total: pieces of work, for progress: one step of one tile each
    tiles: of all pictures, for progress; 0 where work has no steps
    """

    def __init__(self, execution: Execution, total: int, tiles: int = 0) -> None:
        self.execution = execution
        self.device = execution.device
        self.size = max(1, execution.prepare())
        self.total, self.tiles = total, tiles
        self.done = 0

    def report(
        self, pieces: int, stage: str, step: int | None = None, picture: Tensor | None = None
    ) -> None:
        """Tells of finished work; whoever listens may raise to cancel."""
        self.done += pieces
        told = Progress(self.done, self.total, stage, self.tiles, step, picture)
        self.execution.on_progress(told)

    def attempt(self, tiles: int, work: Callable[[], None]) -> bool:
        """Does `work` on some tiles; False when memory ran out and fewer may fit, which it notes.

        With one tile, the error is the caller's: nothing smaller can be tried.
        """
        try:
            work()
        except Exception as error:
            if not self.execution.is_out_of_memory(error):
                raise
            if tiles == 1:
                raise torch.OutOfMemoryError(
                    "Memory does not suffice for a single tile, the least that can be worked on. "
                    "Close other programs, unload other models, or load this one in a lower "
                    f"precision. ({error})"
                ) from error
            self.size = min(self.size, tiles // 2)
        else:
            return True
        # Outside the except clause, where the error no longer holds the tensors that filled memory.
        self.execution.free_memory()
        return False

    def single(self, work: Callable[[], Result]) -> Result:
        """Does work that cannot be divided; out of memory is an error that tells what to try."""
        found: list[Result] = []
        self.attempt(1, lambda: found.append(work()))
        return found[0]

    def run(self, tiles: int, work: Callable[[slice, ReportFn], None]) -> None:
        """Runs `work` on consecutive blocks of tiles, smaller ones where memory runs out.

        work: gets the tiles of its block and report(stage), which it calls once, when it is done;
              what it kept before is done anew after a retry
        """
        start = 0
        while start < tiles:
            part = slice(start, min(start + self.size, tiles))
            count = part.stop - part.start
            finished = self.attempt(
                count,
                lambda part=part, count=count: work(part, lambda stage: self.report(count, stage)),
            )
            if finished:
                start = part.stop
