"""Which jobs a worker elsewhere gets at once, from what is known of them beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..runtime.execution import MAX_TILES_AT_ONCE
from ..tiling.batching import PIXELS_TOGETHER
from .jobs import Job, Work
from .pictures.reading import read_size


def grouped(jobs: Sequence[Job], work: Work, workers: int, gpus: bool) -> list[list[Job]]:
    """Jobs in groups, in order; a film is by itself.

    A group holds what may fill a GPU; the worker divides it further where that is too much. On a
    CPU, where tiles run one by one, there is nothing to fill.
    """
    most = work.together
    if not most:
        most = min(MAX_TILES_AT_ONCE, math.ceil(len(jobs) / workers)) if gpus else 1
    groups: list[list[Job]] = []
    count, pixels = most, 0  # of the last group, which takes nothing yet
    for job in jobs:
        bounded = most > 1 and not work.together and not job.film
        own = _pixels(job, work) if bounded else 0
        if job.film or count >= most or pixels + own > PIXELS_TOGETHER:
            groups.append([])
            count, pixels = 0, 0
        groups[-1].append(job)
        count, pixels = most if job.film else count + 1, pixels + own
    return groups


def _pixels(job: Job, work: Work) -> int:
    """Of the output; 0 for a broken file, of which the worker will tell."""
    try:
        return math.prod(work.size.of(*read_size(Path(job.source))))
    except Exception:  # decoders raise whatever a broken file leads them to
        return 0
