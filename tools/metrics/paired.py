"""Two runs over the same pictures, compared picture by picture.

Wilcoxon's signed-rank test: pictures differ far more among each other than runs do, so differences
within pictures are what counts, and their ranks, since one odd picture must not decide, and nobody
promises that differences are normal. p is exact, ties and all, up to 500 pictures. The effect is
the Hodges-Lehmann estimate, the median of the means of all pairs of differences, in the measure's
own units, with the interval that belongs to the test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
EXACT_TO = 500  # pictures


@dataclass(frozen=True)
class Paired:
    """Differences of the second run from the first.

    pictures:  that both have
    mean:      of the differences
    shift:     Hodges-Lehmann estimate
    low, high: its interval of at least 95 %; None where there are too few pictures for one
    rises, falls: pictures with a positive and a negative difference
    p:         two-sided, of the hypothesis that differences lie evenly about zero
    """

    pictures: int
    mean: float
    shift: float
    low: float | None
    high: float | None
    rises: int
    falls: int
    p: float


def compared(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Of values of the same pictures in the same order, one at least."""
    differences = np.asarray(second, float) - np.asarray(first, float)
    count = len(differences)
    rows, columns = np.triu_indices(count)
    walsh = np.sort((differences[rows] + differences[columns]) / 2)
    outside = _outside(count)
    low, high = (float(walsh[outside]), float(walsh[-1 - outside])) if outside >= 0 else (None,) * 2
    return Paired(
        count,
        float(differences.mean()),
        float(np.median(walsh)),
        low,
        high,
        int((differences > 0).sum()),
        int((differences < 0).sum()),
        signed_rank(differences),
    )


def signed_rank(differences: np.ndarray) -> float:
    """p, two-sided. Zeros say nothing either way and are left out, ties have their mean rank."""
    differences = differences[differences != 0]
    count = len(differences)
    if not count:
        return 1.0
    doubled = _doubled_ranks(np.abs(differences))
    found = int(doubled[differences > 0].sum())
    total = int(doubled.sum())
    if count > EXACT_TO:
        deviation = math.sqrt(float((doubled**2).sum())) / 2
        return math.erfc(max(0.0, abs(found - total / 2) - 1) / deviation / math.sqrt(2))
    chances = _chances(doubled)
    extreme = min(found, total - found)
    return min(1.0, 2 * float(chances[: extreme + 1].sum()))


def holm(values: Sequence[float]) -> list[float]:
    """p of several tests, adjusted so that one false alarm among all stays as rare as in one."""
    adjusted, highest = [0.0] * len(values), 0.0
    for place, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = highest
    return adjusted


def _doubled_ranks(sizes: np.ndarray) -> np.ndarray:
    """Twice the rank of each, whole numbers even where equal ones share the mean of their ranks."""
    _, group, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (2 * last - counts + 1)[group]


def _chances(doubled: np.ndarray) -> np.ndarray:
    """Of each sum of those ranks whose sign is positive, where all signs are tossed."""
    chances = np.zeros(int(doubled.sum()) + 1)
    chances[0] = 1.0
    for rank in doubled:
        moved = np.zeros_like(chances)
        moved[rank:] = chances[: len(chances) - rank]
        chances = (chances + moved) / 2
    return chances


def _outside(count: int) -> int:
    """How many Walsh averages lie beyond each end of the interval; below 0: none can be had."""
    if count > EXACT_TO:
        deviation = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
        return math.floor(count * (count + 1) / 4 - 0.5 - 1.959963984540054 * deviation)
    below = np.cumsum(_chances(np.arange(1, count + 1)))
    return int((below <= LEVEL / 2).sum()) - 1
