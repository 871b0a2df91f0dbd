"""Times the stages of a model where they happen, by hooks on its modules."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

PREFILL = "prefill + scale 0"


def _cpu_attention_flops(q: list, k: list, v: list, *_: object, **__: object) -> int:
    return sdpa_flop_count(q, k, v)


# torch counts attention on a GPU only.
COUNTED_TOO = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops}


@dataclass
class Stage:
    """seconds: of each run, calls added up; flops: of one run."""

    seconds: list[float] = field(default_factory=list)
    calls: int = 0
    flops: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def stages_of(model: nn.Module) -> list[tuple[nn.Module, str | None]]:
    """Modules to time and what they are called; None: by the scale they are given."""
    return [
        (model.prefix_encoder, "prefix encoder"),
        (model.transformer, None),
        (model.transformer.head, "head"),
        (model.refiner, "refiner"),
        (model.decoder, "decoder"),
    ]


class StageClock:
    """While the context lasts, every call of a stage is timed; `close_run` ends one run.

    On a GPU by events, which wait for nothing; elsewhere by the wall clock.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device, self.model = device, model
        self.stages: dict[str, Stage] = {}
        self._marks: list[tuple[str, object, object]] = []
        self._open: list[tuple[str, object, int]] = []
        self._counter: FlopCounterMode | None = None
        self._counted: dict[str, int] = defaultdict(int)

    def __enter__(self) -> StageClock:
        self._hooks = []
        for module, name in stages_of(self.model):
            self._hooks += [
                module.register_forward_pre_hook(
                    lambda _, given, name=name: self._begin(name, given)
                ),
                module.register_forward_hook(lambda *_: self._end()),
            ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _begin(self, name: str | None, given: tuple) -> None:
        if name is None:
            scale = given[3]
            name = f"scale {scale}" if scale else PREFILL
        flops = self._counter.get_total_flops() if self._counter else 0
        self._open.append((name, self._now(), flops))

    def _end(self) -> None:
        name, started, flops = self._open.pop()
        self._marks.append((name, started, self._now()))
        if self._counter:
            self._counted[name] += self._counter.get_total_flops() - flops

    def _now(self) -> object:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def count(self, work: object) -> None:
        """One run that is not timed, in which arithmetic is counted."""
        self._counter = FlopCounterMode(display=False, custom_mapping=COUNTED_TOO)
        with self._counter:
            work()
        self._marks.clear()
        self._counter = None
        for name, flops in self._counted.items():
            self.stages.setdefault(name, Stage()).flops = flops

    def close_run(self) -> None:
        """Adds what was measured since the last call as one run."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        spent, calls = defaultdict(float), defaultdict(int)
        for name, started, ended in self._marks:
            timed = isinstance(started, float)
            spent[name] += ended - started if timed else started.elapsed_time(ended) / 1000
            calls[name] += 1
        self._marks.clear()
        for name, seconds in spent.items():
            stage = self.stages.setdefault(name, Stage())
            stage.seconds.append(seconds)
            stage.calls = calls[name]
