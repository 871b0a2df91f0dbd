"""What a session tells of its work, and tasks for it."""

from __future__ import annotations

from collections.abc import Sequence

from varsr_core.runtime.progress import Progress, Stage
from varsr_core.runtime.work import Calls, Task


def task_of(units: int, stage: Stage = Stage("decoding")) -> Task:  # noqa: B008
    """So much work that nobody is told of on the way."""
    return Task(stage, [Calls(None, units)])


def finished_steps(seen: Sequence[Progress]) -> list[Progress]:
    """Where tiles have taken a step."""
    return [progress for progress in seen if progress.step is not None]


def assert_rises_to_its_total(seen: Sequence[Progress]) -> None:
    """From nothing, never back, always towards the same end, which is reached once, at the end."""
    done = [progress.done for progress in seen]
    totals = {progress.total for progress in seen}
    assert done[0] == 0
    assert done == sorted(done)
    assert totals == {done[-1]}
    assert done.count(done[-1]) == 1
