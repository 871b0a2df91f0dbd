"""A graphics card of NVIDIA or AMD."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from tools.gpu.chip import ATTENTION, Amount, Chip, Memory, Profile
from varsr_core.runtime.compile import Compiler
from varsr_core.runtime.cuda_graphs import CudaGraphs, Recorder


class Cuda(Chip):
    """The first card that torch finds, NVIDIA's or AMD's."""

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise SystemExit(
                f"torch {torch.__version__} finds no graphics card. Run this with the Python that "
                "runs ComfyUI; --rehearse shows the steps on a CPU."
            )
        self.device = self.drawn_on = torch.device("cuda", 0)
        self.amount = Amount()

    def facts(self) -> dict[str, object]:
        card = torch.cuda.get_device_properties(self.device)
        free, total = torch.cuda.mem_get_info(self.device)
        return {
            "card": card.name,
            "driver": _driver(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda or f"HIP {torch.version.hip}",
            "cudnn": torch.backends.cudnn.version(),
            "capability": f"{card.major}.{card.minor}",
            "multiprocessors": card.multi_processor_count,
            "total GB": total / 1e9,
            "free GB": free / 1e9,
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "date": str(date.today()),
        }

    def wait(self) -> None:
        torch.cuda.synchronize(self.device)

    def free(self) -> None:
        torch.cuda.empty_cache()

    @contextmanager
    def memory(self, limit: float | None = None) -> Iterator[Memory]:
        self.wait()
        self.free()
        before, found = torch.cuda.memory_allocated(self.device), Memory()
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            with self._limited(limit):
                yield found
        finally:
            found.peak = torch.cuda.max_memory_allocated(self.device) - before

    @contextmanager
    def _limited(self, limit: float | None) -> Iterator[None]:
        if limit is None:
            yield
            return
        total = torch.cuda.get_device_properties(self.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(limit / total, 1.0), self.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)

    def recorder(self, short: int = 0) -> Recorder:
        left = [short]

        def make() -> Callable[..., Any]:
            record = CudaGraphs()

            def recorded(work: Callable[[], Tensor], *rest: Any) -> Any:
                left[0] -= 1
                return record(self._beyond_memory(work) if left[0] >= 0 else work, *rest)

            return recorded

        return Recorder(make) if short else Recorder()

    def _beyond_memory(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """The same work, but while it is recorded it asks for more than any card has."""

        def beyond() -> Tensor:
            output = work()
            if torch.cuda.is_current_stream_capturing():
                torch.empty(2**50, dtype=torch.uint8, device=self.device)
            return output

        return beyond

    def compiler(self) -> Compiler:
        return Compiler()

    def profile(self, work: Callable[[], object]) -> Profile:
        kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as found:
            seconds = self.seconds(work)
        events = found.events() or []
        there = [event for event in events if event.device_type == DeviceType.CUDA]
        copies = [event for event in there if event.name.startswith(("Memcpy", "Memset"))]
        spans = [(event.time_range.start, event.time_range.end) for event in there]
        attention = {e.name for e in events if ATTENTION.search(e.name)}
        return Profile(
            len(there) - len(copies), len(copies), covered(spans) / 1e6, seconds, sorted(attention)
        )


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Length of what some spans cover together."""
    length, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        length += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return length


def _driver() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown"
    asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True).stdout.split()
    return told[0] if told else "unknown"
