"""A CPU in place of a card: its clock, no graphs, nothing compiled, memory as tensors count it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity

from helpers.live_bytes import LiveBytes
from tools.benchmarks.ceilings import CeilingSizes
from tools.gpu.chip import ATTENTION, GUIDANCE, Amount, Chip, Memory, Profile
from tools.random_checkpoint import MICRO
from varsr_core.runtime.compile import Compiler
from varsr_core.runtime.cuda_graphs import Recorder

TINY = Amount(
    released=MICRO,
    ceiling=CeilingSizes(side=64, rows=1, length=64, copied=2**16),
    default=False,
    guidances=(GUIDANCE,),
    batches=(1, 2),
    photographs=1,
    side=20,
    many_tiles=(28, 28),
    rounds=1,
    enlarged=1.5,
    limits=(6e6, 2e6),
)


class Rehearsal(Chip):
    """All that is done on a card, in small."""

    def __init__(self) -> None:
        self.device = self.drawn_on = torch.device("cpu")
        self.amount = TINY
        self.comfyui, self.lacks = ("--cpu",), ("compile",)

    def facts(self) -> dict[str, object]:
        return {
            "card": "none: a rehearsal on the CPU",
            "driver": "none",
            "torch": torch.__version__,
            "python": platform.python_version(),
            "date": str(date.today()),
        }

    def wait(self) -> None:
        """A CPU is done when it returns."""

    def free(self) -> None:
        """Nothing is held."""

    @contextmanager
    def memory(self, limit: float | None = None) -> Iterator[Memory]:
        found, live = Memory(), _LimitedBytes(limit)
        try:
            with live:
                yield found
        finally:
            found.peak = live.peak

    def recorder(self, short: int = 0) -> Recorder:
        left = [short]

        def record(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
            """A recording that does the work again, on the same tensors."""
            left[0] -= 1
            if left[0] >= 0:
                raise torch.OutOfMemoryError("CUDA out of memory (rehearsed) while recording")
            output = work().clone()

            def replay() -> None:
                output.copy_(work())

            return replay, output

        return Recorder(lambda: record, device="cpu")

    def compiler(self) -> Compiler:
        return Compiler(lambda plain, **_: plain)

    def profile(self, work: Callable[[], object]) -> Profile:
        with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as found:
            started = time.perf_counter()
            work()
            seconds = time.perf_counter() - started
        events = found.events() or []
        attention = {event.name for event in events if ATTENTION.search(event.name)}
        return Profile(len(events), 0, seconds, seconds, sorted(attention))


class _LimitedBytes(LiveBytes):
    """Out of memory, as a card has it, when more than `limit` bytes are alive."""

    def __init__(self, limit: float | None) -> None:
        super().__init__()
        self.limit = limit

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = super().__torch_dispatch__(function, types, args, kwargs)
        if self.limit is not None and self.alive > self.limit:
            self.count()
        if self.limit is not None and self.alive > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory (rehearsed)")
        return result
