"""Which tasks a worker elsewhere gets at once, by what is known of them beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..runtime.execution import MAX_TILES_AT_ONCE
from ..tiling.batching import PIXELS_TOGETHER
from .jobs import Picture, Segment, Task
from .options import Options
from .pictures.reading import read_size


def grouped(tasks: Sequence[Task], options: Options, workers: int, gpus: bool) -> list[list[Task]]:
    """Tasks in groups, in order; a segment is by itself.

    A group holds what may fill a GPU; the worker divides it further where that is too much. On a
    CPU, where tiles run one by one, there is nothing to fill.
    """
    most = options.together
    if not most:
        most = min(MAX_TILES_AT_ONCE, math.ceil(len(tasks) / workers)) if gpus else 1
    bounded = most > 1 and not options.together  # by pixels, too
    groups: list[list[Task]] = []
    count, pixels = most, 0  # of the last group, which takes nothing yet
    for task in tasks:
        if isinstance(task, Segment):
            groups.append([task])
            count = most
            continue
        own = _pixels(task, options) if bounded else 0
        if count >= most or pixels + own > PIXELS_TOGETHER:
            groups.append([])
            count, pixels = 0, 0
        groups[-1].append(task)
        count, pixels = count + 1, pixels + own
    return groups


def _pixels(job: Picture, options: Options) -> int:
    """Of the output; 0 for a broken file, of which the worker will tell."""
    try:
        return math.prod(options.size.of(*read_size(Path(job.source))))
    except Exception:  # decoders raise whatever a broken file leads them to
        return 0
