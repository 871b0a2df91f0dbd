"""In which numbers a step computes, and how gradients become a step of the optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointError
from ...runtime.dtypes import fast_on_cpu
from .processes import whole

PRECISIONS: dict[str, torch.dtype | None] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": None,
}
AUTO = "auto"


def chosen_dtype(precision: str, autocast: bool, device: str) -> torch.dtype | None:
    """Of matrix products; None for that of the weights. "auto" is bf16 where that is quick."""
    if precision != AUTO:
        return PRECISIONS[precision]
    slow = device == "cpu" and torch.bfloat16 not in fast_on_cpu()
    return torch.bfloat16 if autocast and not slow else None


class Precision:
    """Autocast, and for float16 the scale that keeps small gradients from vanishing.

    dtype: of matrix products, or None
    """

    def __init__(self, dtype: torch.dtype | None, device: str) -> None:
        self.dtype, self.device = dtype, device
        half = dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device) if half else None

    def autocast(self) -> torch.autocast:
        """A context in which losses are computed."""
        return torch.autocast(
            self.device, self.dtype or torch.bfloat16, enabled=self.dtype is not None
        )

    def backward(self, loss: Tensor) -> None:
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def update(
        self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], clip: float
    ) -> Tensor:
        """One step of the optimiser; with a scaler none where a gradient is not finite.

        returns  norm of all gradients before it was clipped, a scalar
        """
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        norm = whole(nn.utils.clip_grad_norm_(parameters, clip))
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
        return norm

    def state(self) -> dict[str, Any]:
        """Of the scaler; empty where there is none."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def resume(self, state: dict[str, Any]) -> None:
        """Takes what state() gave. A run that goes on in float16 begins with a new scale."""
        if self.scaler is None or not state:
            return
        try:
            self.scaler.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"the state of the gradients' scale is damaged: {error}"
            ) from None
