"""The refiner alone, on what the restorer samples by itself.

In `isr` it learns beside a transformer that changes with every step and is told the right tokens.
Behind that, here, tokens are the restorer's own: whatever it gets wrong is left for the refiner to
make up for, as when pictures are restored. A step takes a fraction of one of `isr`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...runtime.precision import without_autocast
from ...tiling.noise import TileSeed
from ...tiling.restorer import all_steps
from ...varsr.model import VARSR
from ...varsr.restorer import VARSRRestorer
from ...varsr.sampling import RefineSettings, SampleSettings, hidden_by_tile, refiner_condition
from ..data.pairs import PairBatch
from ..losses.diffusion import ResidualLoss
from .loss import StageLoss
from .visible_target import VisibleTarget


class RefinerLoss(StageLoss[PairBatch]):
    """The diffusion loss of what the likeliest tokens, without guidance, lack of a latent.

    unseen: of the targets, see VisibleTarget
    """

    def __init__(self, model: VARSR, unseen: float = 1.0) -> None:
        super().__init__(model)
        self.target = VisibleTarget(model, unseen)
        self.restorer = VARSRRestorer(
            model, SampleSettings(guidance=0.0), RefineSettings(guidance=0.0, strength=0.0)
        )
        self.residual = ResidualLoss()

    def trained(self) -> list[nn.Module]:
        return [self.model.refiner]

    @torch.no_grad()
    def inputs(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Normed condition (N, S * S, D) and residual (N, S * S, C) of good pairs."""
        lq = batch.lq
        seeds = [TileSeed(0, 0)] * len(lq)  # nothing is drawn from them
        with without_autocast(lq.device):
            latent = self.target.latent(*batch)
            state = all_steps(self.restorer, lq, seeds)
            hidden = hidden_by_tile(self.model, state).transpose(0, 1)
            (condition,) = refiner_condition(self.model, hidden, state.token_ids[-1])
        residual = (latent - state.latent).flatten(2).transpose(1, 2)
        return condition, residual

    def forward(
        self, condition: Tensor, residual: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Of what inputs() returns; `loss` alone."""
        loss = self.residual(self.model.refiner, condition, residual, generator)
        return {"loss": loss}
