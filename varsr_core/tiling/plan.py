"""What will be done to tiles, so that progress can be told as a share of it."""

from __future__ import annotations

from typing import Protocol

from ..runtime.execution import Plan
from ..runtime.work import Task


class Stepwise(Protocol):
    """What has tasks, step by step."""

    @property
    def steps(self) -> int: ...
    @property
    def starting(self) -> Task | None: ...
    def task(self, k: int) -> Task: ...


def plan_of(work: Stepwise, tiles: int) -> Plan:
    """All that is done to so many tiles."""
    tasks = [work.task(k) for k in range(work.steps)]
    return [(task, tiles) for task in (work.starting, *tasks) if task is not None]
