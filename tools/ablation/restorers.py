"""Restorers that leave a part of the method out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from varsr_core.runtime.precision import without_tf32
from varsr_core.training.stages.prefix import estimated_latent
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sample_state import SampleState


class Stopped:
    """The first steps of another restorer: the picture of the scales so far."""

    def __init__(self, inner: Any, steps: int) -> None:
        self._inner, self.steps = inner, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def wider(self) -> Stopped | None:
        wider = self._inner.wider
        return None if wider is None else Stopped(wider, self.steps)


class PrefixEstimate(VARSRRestorer):
    """The picture that the prefix encoder saw, without transformer: its estimate of the latent.

    Models that this project trains learn it in the first channels of every prefix token.
    """

    @property
    def steps(self) -> int:
        return 1

    def step(self, state: SampleState, k: int) -> None:
        state.latents.append(self.found(state))

    def found(self, state: SampleState) -> Tensor:
        return estimated_latent(self.model, state.prefix)


class QuantizedEstimate(PrefixEstimate):
    """The same as tokens could say it: what a transformer has to be better than."""

    def found(self, state: SampleState) -> Tensor:
        return self.model.quantizer.encode(super().found(state))[1][-1]


@torch.inference_mode()
@without_tf32
def estimate_error(restorer: VARSRRestorer, lq: Tensor) -> float:
    """How far the estimate is from the latent of its own input, of that latent's mean square.

    A prefix that was not trained to estimate has channels of another meaning, and 1 or more here.

    lq: (N, 3, side, side) in [0, 1]
    """
    model = restorer.model
    estimate = estimated_latent(model, model.encode_prefix(lq))
    latent = model.encode_latent(lq)
    return float((estimate - latent).square().mean() / latent.square().mean())
