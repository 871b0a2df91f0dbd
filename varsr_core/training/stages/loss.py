"""What all stages' losses have in common."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from torch import nn

from ...varsr.model import VARSR

Batch = TypeVar("Batch")


class Loss(nn.Module, Generic[Batch]):
    """One step's losses; a module, so that data parallel training can wrap it.

    forward() takes what inputs() makes of a batch, and a generator on the CPU for all that is
    drawn; it returns scalars by name, `loss` the weighted sum.
    """

    def trained(self) -> list[nn.Module]:
        """The parts that this stage changes."""
        raise NotImplementedError

    def shards(self) -> list[nn.Module]:
        """Parts that several GPUs may share out one by one, inner ones first; none where each is
        to have all weights. They are used as modules are called, within forward() only, and
        whatever a batch holds in the same order and equally often; weights of all parts that learn
        have a gradient then."""
        return []

    def checkpointed(self) -> list[nn.Module]:
        """Parts that `checkpointing` computes again for the gradient, inner ones first."""
        return self.shards()

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """What forward() takes of a batch, encoded where no gradient is wanted."""
        raise NotImplementedError


class StageLoss(Loss[Batch]):
    """Of a stage of VARSR."""

    def __init__(self, model: VARSR) -> None:
        super().__init__()
        self.model = model
