"""A step's batch in passes, and the losses of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...errors import InputError
from ..loop import LoopSettings, Pass
from ..stages.loss import Loss
from .draws import Rows, StepGenerator
from .processes import place, shares, summed, synchronised

Batch = TypeVar("Batch", bound=tuple[Any, ...])


def passes(
    module: Loss[Any],
    loss: nn.Module,
    batch: Any,
    settings: LoopSettings,
    generator: StepGenerator,
) -> Iterator[Pass]:
    """Losses of a step, pass by pass; the gradient of each is to be taken before the next.

    module: computes them
    loss:   the same module, as several processes train it: see parallel()
    batch:  this process's samples: a named tuple, each field of which has one entry a sample
    """
    count, processes = sample_count(batch), place()[1]
    rows = _rows(count)
    if count < settings.accumulate:
        raise InputError(
            f"{count} samples of a process cannot be taken in {settings.accumulate} passes; "
            "choose a smaller accumulate, or fewer processes"
        )
    parts = shares(count, settings.accumulate)
    for number, part in enumerate(parts):
        own = Rows(rows.first + part.start, len(part), rows.whole)
        if own.count < own.whole:
            generator.begin_pass(own)
        share = own.count / own.whole
        with synchronised(loss, last=number == len(parts) - 1):
            inputs = module.inputs(samples(batch, part))
            # Gradients are averaged over processes.
            yield Pass(loss(*inputs, generator), weight=share * processes, share=share)


def _rows(count: int) -> Rows:
    """Which samples of the whole batch this process's are."""
    rank, processes = place()
    counts = [0.0] * processes
    counts[rank] = count
    counts = [int(found) for found in summed(counts)]
    return Rows(sum(counts[:rank]), count, sum(counts))


def sample_count(batch: Any) -> int:
    """Samples of a batch, a named tuple."""
    return len(batch[0])


def samples(batch: Batch, wanted: range) -> Batch:
    """Some samples of a batch; the batch itself where all are wanted."""
    if len(wanted) == sample_count(batch):
        return batch
    return _like(batch, [_some(field, wanted) for field in batch])


def _some(field: Any, wanted: range) -> Any:
    if isinstance(field, (Tensor, list, tuple)):
        return field[wanted.start : wanted.stop]
    return field  # of the whole batch


def without_values(batch: Batch, count: int) -> Batch:
    """A batch of `count` such samples on the meta device, to count what a step takes."""

    def shape_of(field: Any) -> Any:
        if not isinstance(field, Tensor):
            return field[:1] * count if isinstance(field, (list, tuple)) else field
        return torch.empty(count, *field.shape[1:], dtype=field.dtype, device="meta")

    return _like(batch, map(shape_of, batch))


def _like(batch: Batch, fields: Iterable[Any]) -> Batch:
    """A batch with other fields."""
    make: Callable[[Iterable[Any]], Batch] = getattr(batch, "_make", type(batch))
    return make(fields)
