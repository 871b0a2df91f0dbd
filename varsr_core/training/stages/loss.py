"""What all stages' losses have in common."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from torch import nn

from ...varsr.model import VARSR

Batch = TypeVar("Batch")


class StageLoss(nn.Module, Generic[Batch]):
    """One step's losses; a module, so that data parallel training can wrap it.

    forward() takes what inputs() makes of a batch, and a generator on the CPU for all that is
    drawn; it returns scalars by name, `loss` the weighted sum.
    """

    def __init__(self, model: VARSR) -> None:
        super().__init__()
        self.model = model

    def trained(self) -> list[nn.Module]:
        """The parts that this stage changes."""
        raise NotImplementedError

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """What forward() takes of a batch, encoded where no gradient is wanted."""
        raise NotImplementedError
