"""The stage that teaches the prefix encoder alone to see through damage.

Part of every prefix token estimates the latent of the good picture (see stream_places.py). Trained
directly, on squared error, it learns in minutes what would take hours through the transformer.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...varsr.model import VARSR
from .stream_places import places


def estimated_latent(model: VARSR, prefix: Tensor) -> Tensor:
    """What a prefix (N, S * S, D) says of the good picture's latent: (N, C, S, S) float32."""
    side = model.config.schedule.final_side
    estimate = prefix[:, :, places(model.config).estimate].float()
    return estimate.transpose(1, 2).unflatten(2, (side, side))


def estimate_error(estimate: Tensor, latent: Tensor) -> Tensor:
    """Squared error as a share of the latent's own mean square; both (N, C, S, S)."""
    return (estimate - latent).square().mean() / latent.square().mean()


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
        estimate = estimated_latent(self.model, self.model.encode_prefix(lq))
        return {"loss": estimate_error(estimate, latent)}
