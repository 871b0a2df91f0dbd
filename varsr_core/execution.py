"""How work is run: on which device, how many tiles at once, and what if memory is short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .progress import Progress, ProgressFn, silent

Result = TypeVar("Result")
ReportFn = Callable[[int, str, Tensor | None], None]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of plain torch means that a smaller batch may fit."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("DefaultCPUAllocator", "out of memory"))
    )


@dataclass(frozen=True)
class Execution:
    """The caller's device and services.

    device:           where tiles are worked on; the model must be there
    prepare:          called once, when the input was found good and work begins: brings the model
                      to the device and says how many tiles to work on at once; that number is
                      halved when memory runs out, down to one
    on_progress:      called after every piece of work; may raise to cancel
    is_out_of_memory: tells whether an error is worth a retry with fewer tiles
    free_memory:      called before such a retry
    """

    device: torch.device = torch.device("cpu")
    prepare: Callable[[], int] = lambda: 1
    on_progress: ProgressFn = silent
    is_out_of_memory: Callable[[Exception], bool] = is_out_of_memory
    free_memory: Callable[[], None] = lambda: None


def run_in_blocks(
    tiles: int,
    steps: int,
    run: Callable[[slice, ReportFn], Result],
    execution: Execution,
) -> list[Result]:
    """Runs `run` on consecutive blocks of tiles and returns what each block gave.

    A block that runs out of memory is run again as two smaller ones; the result does not depend on
    it, because every tile has a seed of its own.

    steps: pieces of work per tile, for progress
    run:   gets the tiles of its block and report(steps done, stage, latent or None)
    """
    results: list[Result] = []
    start, size = 0, max(1, execution.prepare())
    while start < tiles:
        part = slice(start, min(start + size, tiles))
        try:
            results.append(run(part, _reporter(part, tiles, steps, execution.on_progress)))
        except Exception as error:
            if part.stop - part.start == 1 or not execution.is_out_of_memory(error):
                raise
            size = (part.stop - part.start) // 2
        else:
            start = part.stop
            continue
        # Outside the except clause, where the error no longer holds the tensors that filled memory.
        execution.free_memory()
    return results


def _reporter(part: slice, tiles: int, steps: int, on_progress: ProgressFn) -> ReportFn:
    def report(done: int, stage: str, latent: Tensor | None = None) -> None:
        finished = part.start * steps + done * (part.stop - part.start)
        on_progress(Progress(finished, tiles * steps, stage, latent))

    return report
