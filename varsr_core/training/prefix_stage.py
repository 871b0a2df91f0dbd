"""The stage that teaches the prefix encoder alone to see through damage.

Part of every prefix token estimates the latent of the good picture (see stream_places.py). Trained
directly, on squared error, it learns in minutes what would take hours through the transformer.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..varsr.model import VARSR
from .stream_places import places


class PrefixLoss(nn.Module):
    """Squared error of the estimate, as a share of the latent's own mean square."""

    def __init__(self, model: VARSR) -> None:
        super().__init__()
        self.model = model

    def trained(self) -> list[nn.Module]:
        """The parts this stage changes."""
        return [self.model.prefix_encoder]

    def forward(self, lq: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """lq: (N, 3, tile, tile) in [0, 1]; latent: (N, C, S, S) of the good picture."""
        estimate = self.model.encode_prefix(lq)[:, :, places(self.model.config).estimate]
        wanted = latent.flatten(2).transpose(1, 2)
        loss = (estimate.float() - wanted).square().mean() / wanted.square().mean()
        return {"loss": loss}
