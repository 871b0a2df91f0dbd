"""How far the bar is from the share of the arithmetic that was done, counted by torch itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

from tools.benchmarks.stage_clock import COUNTED_TOO
from varsr_core.nn import work as network_work
from varsr_core.runtime import work as runtime_work
from varsr_core.runtime.execution import Execution
from varsr_core.runtime.progress import Progress


def largest_distance(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[Execution], Any], at_once: int = 1
) -> tuple[float, int]:
    """Over all that is told: between the bar and the share of all products; and how often it is.

    What kernels cost to start, and softmax, are no products and left out.
    """
    counter = FlopCounterMode(display=False, custom_mapping=COUNTED_TOO)
    told: list[tuple[float, int]] = []

    def look(progress: Progress) -> None:
        told.append((progress.done / progress.total, counter.get_total_flops()))

    with monkeypatch.context() as patch:
        patch.setattr(runtime_work, "LAUNCH", 0)
        patch.setattr(network_work, "SOFTMAX", 0)
        with counter:
            run(Execution(prepare=lambda: at_once, on_progress=look))
    total = counter.get_total_flops()
    return max(abs(bar - flops / total) for bar, flops in told), len(told)
