"""The stage that teaches the prefix encoder alone to see through damage.

The first channels of every prefix token estimate the latent of the good picture. Trained directly,
on squared error, the encoder learns in minutes what would take hours through the transformer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...varsr.config import VARSRConfig
from ...varsr.model import VARSR
from ..data.pairs import PairBatch
from .loss import StageLoss


def estimate_channels(config: VARSRConfig) -> slice:
    """Where in a prefix token the estimate of the latent is found."""
    return slice(0, config.tokenizer.latent_channels)


def estimated_latent(model: VARSR, prefix: Tensor) -> Tensor:
    """What a prefix (N, S * S, D) says of the good picture's latent: (N, C, S, S) float32."""
    side = model.config.schedule.final_side
    estimate = prefix[:, :, estimate_channels(model.config)].float()
    return estimate.transpose(1, 2).unflatten(2, (side, side))


def estimate_error(estimate: Tensor, latent: Tensor) -> Tensor:
    """Squared error divided by the latent's own mean square, a scalar; both (N, C, S, S)."""
    return (estimate - latent).square().mean() / latent.square().mean()


class PrefixLoss(StageLoss[PairBatch]):
    """Squared error of the estimate, divided by the latent's own mean square."""

    def trained(self) -> list[nn.Module]:
        return [self.model.prefix_encoder]

    @torch.no_grad()
    def inputs(self, batch: PairBatch) -> tuple[Tensor, ...]:
        return batch.lq, self.model.encode_latent(batch.target)

    def forward(
        self, lq: Tensor, latent: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """lq: (N, 3, tile, tile) in [0, 1]; latent: (N, C, S, S) of the good picture.

        generator: as every stage's loss is given one; nothing is drawn from it
        """
        estimate = estimated_latent(self.model, self.model.encode_prefix(lq))
        return {"loss": estimate_error(estimate, latent)}
