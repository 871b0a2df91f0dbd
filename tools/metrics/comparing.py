"""Two files of scores side by side, with a test for each measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tools.metrics.catalogue import TITLES
from tools.metrics.paired import LEVEL, Paired, compared, holm
from tools.metrics.scoring import MEAN, Row
from varsr_core.errors import InputError

HEAD = ("measure", "FIRST", "SECOND", "change", "95 % interval", "better/worse", "p", "p (Holm)")
NOT_SHOWN = "no difference shown"
TOO_FEW = 6  # pictures, below which no difference can come out as one: 2 / 2**5 is more than .05

Runs = tuple[Mapping[str, Row], Mapping[str, Row]]


@dataclass(frozen=True)
class Line:
    """One measure: the means of both runs, what the test says, p among that of other measures."""

    title: str
    means: tuple[float, float]
    test: Paired
    adjusted: float

    @property
    def more(self) -> bool | None:
        """Whether more is better; None where that is not known."""
        return TITLES[self.title].more if self.title in TITLES else None

    @property
    def verdict(self) -> str:
        if self.adjusted > LEVEL:
            return NOT_SHOWN
        if self.more is None:
            return "other"
        return "better" if (self.test.shift > 0) == self.more else "worse"

    def cells(self) -> tuple[str, ...]:
        test = self.test
        counts = (test.falls, test.rises) if self.more is False else (test.rises, test.falls)
        interval = "-" if test.low is None else f"{test.low:+.3g} to {test.high:+.3g}"
        means = (f"{mean:.4g}" for mean in self.means)
        return (
            *(self.title, *means, f"{test.shift:+.3g}", interval, "{}/{}".format(*counts)),
            *(f"{test.p:.2g}", f"{self.adjusted:.2g}", self.verdict),
        )

    def record(self) -> dict[str, Any]:
        first, second = self.means
        found = {"first": first, "second": second, **asdict(self.test)}
        return {**found, "p_holm": self.adjusted, "verdict": self.verdict}


def comparison(runs: Runs, names: tuple[str, str]) -> tuple[str, dict[str, Any]]:
    """A table for people, and the same as numbers by title. Raises InputError."""
    first, second = runs
    shared = [name for name in first if name in second and name != MEAN]
    if not shared:
        raise InputError(
            f"{names[0]} and {names[1]} have no picture in common; runs over the same pictures "
            "are compared"
        )
    pairs = {title: _pairs(title, runs, shared) for title in _titles(first, shared)}
    pairs = {title: values for title, values in pairs.items() if len(values)}
    if not pairs:
        raise InputError(
            f"{names[0]} and {names[1]} have no measure in common; score both with one --metrics"
        )
    tests = {title: compared(*values.T.tolist()) for title, values in pairs.items()}
    adjusted = holm([test.p for test in tests.values()])
    lines = [
        Line(title, tuple(pairs[title].mean(0).tolist()), test, p)
        for (title, test), p in zip(tests.items(), adjusted, strict=True)
    ]
    counted = (
        f"{len(shared)} pictures in both ({len(first) - 1} in FIRST, {len(second) - 1} in SECOND)"
    )
    head = [f"FIRST {names[0]}", f"SECOND {names[1]}", counted, *_doubts(len(shared))]
    return "\n".join((*head, "", _table(lines))), {line.title: line.record() for line in lines}


def _titles(run: Mapping[str, Row], shared: list[str]) -> list[str]:
    """Measures of single pictures; what is of a whole set cannot be tested."""
    return list(dict.fromkeys(title for name in shared for title in run[name]))


def _pairs(title: str, runs: Runs, shared: list[str]) -> np.ndarray:
    """(N, 2): values of pictures that both could be measured on."""
    values = [[run[name].get(title) for run in runs] for name in shared]
    whole = [pair for pair in values if None not in pair]
    return np.asarray(whole, float).reshape(-1, 2)


def _doubts(count: int) -> list[str]:
    if count >= TOO_FEW:
        return []
    return [f"Of {count} pictures nothing can be shown: {TOO_FEW} are the fewest, 20 are better."]


def _table(lines: list[Line]) -> str:
    cells = [(*HEAD, "SECOND is"), *(line.cells() for line in lines)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
    return "\n".join(padded)
