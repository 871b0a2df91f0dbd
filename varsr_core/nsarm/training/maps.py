"""The first stage: the map network learns the codes of the first scales.

From the authors' figure: the map network alone, squared error to the good picture's residuals of
the first scales, which are the values of its bits. As sampling does, the released code reads tokens
(L, C) as (C, side, side) without a transpose, and so does the target's comparison. That scales
weigh alike, dropout and the optimiser are our guess (dropout as of K2N's, the same network).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...images.resize import resize
from ...runtime.precision import without_autocast
from ...training.data.small_pairs import SmallPairBatch, small_pairs
from ...training.loop import LoopSettings
from ...training.map_networks import dropping
from ...training.stage_table import Stage
from ...training.stages.loss import Loss
from ...training.trained_kind import TrainedKind
from ..config import FORCED
from ..model import NSARM
from .released import released_sizes
from .start import checkpoint, started
from .targets import encode


@dataclass(frozen=True)
class MapsTraining:
    """
    maps:    the stage
    dropout: of the transformer layers
    """

    maps: LoopSettings | None = None
    dropout: float = 0.1


class MapsLoss(Loss[SmallPairBatch]):
    """Squared error of the first scales' maps."""

    def __init__(self, model: NSARM, dropout: float) -> None:
        super().__init__()
        self.model, self.dropout = model, dropout

    def trained(self) -> list[nn.Module]:
        return [self.model.maps]

    def shards(self) -> list[nn.Module]:
        return list(self.model.maps.branches)

    def checkpointed(self) -> list[nn.Module]:
        return []

    def inputs(self, batch: SmallPairBatch) -> tuple[Tensor, Tensor]:
        return encoded(self.model, batch)

    def forward(
        self, lq_latent: Tensor, latent: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """
        lq_latent: (N, C, s, s) of the low-quality picture
        latent:    (N, C, S, S) of the good one
        """
        codes = encode(self.model, latent, scales=FORCED).codes
        return map_losses(self.model, lq_latent, codes, self.dropout, generator)


@torch.no_grad()
def encoded(model: NSARM, batch: SmallPairBatch) -> tuple[Tensor, Tensor]:
    """Both pictures' latents, in float32: a sign is a bit."""
    lq, size = batch.lq, model.config.lq_size
    if lq.shape[-1] != size:
        lq = resize(lq, size, size)
    with without_autocast(lq.device):
        return model.encode(lq), model.encode(batch.target)


def map_losses(
    model: NSARM, lq_latent: Tensor, codes: list[Tensor], dropout: float, rng: torch.Generator
) -> dict[str, Tensor]:
    """codes: (N, C, side, side) of the first scales; `map_bits` is the share of right signs."""
    with dropping(model.maps, dropout, rng):
        found = model.maps(lq_latent)
    maps = [
        tokens.float().reshape(wanted.shape) for tokens, wanted in zip(found, codes, strict=True)
    ]
    pairs = list(zip(maps, codes, strict=True))
    loss = torch.stack([F.mse_loss(made, wanted) for made, wanted in pairs]).mean()
    right = [((made > 0) == (wanted > 0)).float().mean() for made, wanted in pairs]
    return {"loss": loss, "map_bits": torch.stack(right).mean()}


TRAINED = TrainedKind(
    stages=(
        Stage(
            name="maps",
            loss=lambda c: MapsLoss(c.model, c.own.dropout),
            data=small_pairs,
        ),
    ),
    model=started,
    tile_size=lambda model: model.config.tile_size,
    checkpoint=checkpoint,
    own=MapsTraining,
    example=released_sizes,
)
