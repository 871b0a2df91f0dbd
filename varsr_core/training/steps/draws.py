"""What a step draws at random: the same, however its batch is shared out.

A batch may be taken in several passes, or by several processes. Noise is drawn for the whole batch
in each of them, and every pass takes what belongs to its samples, so a step computes what it would
in one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Samples of one pass: `count` from `first` on, of a step's `whole` batch."""

    first: int
    count: int
    whole: int

    def of(self, first: int, count: int) -> Rows:
        """Those of this pass among `count` samples of the whole batch from `first` on."""
        start = min(max(self.first - first, 0), count)
        stop = min(max(self.first + self.count - first, 0), count)
        return Rows(start, stop - start, count)


class StepGenerator(torch.Generator):
    """A generator of one step, on the CPU, that knows which samples the present pass has.

    rows: of the present pass; None where it has the whole batch
    """

    rows: Rows | None
    _kept: list[Tensor]
    _next: int

    def __init__(self) -> None:
        self.rows, self._kept, self._next = None, [], 0

    def begin_pass(self, rows: Rows) -> None:
        """From here on draws are for these samples; they repeat those of the first pass."""
        self.rows, self._next = rows, 0

    def whole(self, draw: Callable[[], Tensor]) -> Tensor:
        """What the first pass drew at this place, or a first draw."""
        if self._next == len(self._kept):
            self._kept.append(draw())
        self._next += 1
        return self._kept[self._next - 1]


def rows_of(generator: torch.Generator, count: int) -> Rows:
    """Which samples of the whole batch the `count` ones of this pass are."""
    rows = generator.rows if isinstance(generator, StepGenerator) else None
    return rows or Rows(0, count, count)


def draw_rows(
    generator: torch.Generator, rows: Rows, draw: Callable[[int], Tensor], dim: int = 0
) -> Tensor:
    """Random numbers of the samples of this pass.

    rows:    see rows_of(); every pass of a step makes the same draws in the same order, with rows
             of the same `whole`, also where none of its own samples takes part
    draw:    (whole,) -> random numbers of so many samples, from `generator`
    dim:     of the samples in what is drawn
    returns  what `draw` makes, with `rows.count` samples along `dim`
    """
    if not isinstance(generator, StepGenerator) or generator.rows is None:
        return draw(rows.whole)
    drawn = generator.whole(lambda: draw(rows.whole))
    return drawn.narrow(dim, rows.first, rows.count)
