"""The one stage of K2N: its maps learn to be the first maps of the tokenizer's encoding.

Losses, what learns, first weights, the optimiser and the degradation are those of the public code
and its configuration (K2NSR, arXiv 2608.01823). It trains in float32 at a learning rate that stays;
pictures are cut at random and mirrored, here also turned, as in all other training of this pack.
Which form its published weights were trained in nobody here knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....images.resize import resize
from ....nn.resample import resample
from ....runtime.precision import without_autocast
from ....training.data.small_pairs import SmallPairBatch, small_pairs
from ....training.loop import LoopSettings
from ....training.map_networks import dropping
from ....training.stage_table import Stage
from ....training.stages.loss import Loss
from ....training.trained_kind import TrainedKind
from ..model import K2N
from .pair import TrainedPair, checkpoint, released_sizes, started

LOGIT_SCALE = 20.0
BETA = 1.0  # of the smooth L1: where it turns from square to straight


@dataclass(frozen=True)
class K2NTraining:
    """Defaults are the public ones.

    maps:       the stage
    code:       weight of the cross-entropy of the codes
    sum:        weight of the error of all maps together
    dropout:    of the transformer layers
    """

    maps: LoopSettings | None = None
    code: float = 0.001
    sum: float = 0.2
    dropout: float = 0.1


class K2NLoss(Loss[SmallPairBatch]):
    """Smooth L1 of each map and of their sum, and cross-entropy of the codes."""

    def __init__(self, pair: TrainedPair, settings: K2NTraining) -> None:
        super().__init__()
        self.pair, self.settings = pair, settings

    def trained(self) -> list[nn.Module]:
        network = self.pair.network
        return [
            *learning_parts(network),
            network.maps,
            network.input_scale,
            network.feature_scale,
        ]

    def shards(self) -> list[nn.Module]:
        return list(self.pair.network.maps.branches)

    def checkpointed(self) -> list[nn.Module]:
        return []

    def inputs(self, batch: SmallPairBatch) -> tuple[Tensor, list[Tensor]]:
        network, lq = self.pair.network, batch.lq
        if lq.shape[-1] != network.lq_size:
            lq = resize(lq, network.lq_size, network.lq_size)
        with without_autocast(lq.device):  # codes are found in float32
            return lq, self.pair.tokenizer.first_ids(batch.target, network.config.scales)

    def forward(
        self, lq: Tensor, token_ids: list[Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """lq: (N, 3, lq_size, lq_size) in [0, 1]; token_ids: (N, side * side) of each scale."""
        network, settings = self.pair.network, self.settings
        with dropping(network.maps, settings.dropout, generator):
            maps = network(lq, network.config.scales)
        with without_autocast(lq.device):
            codebook = self.pair.tokenizer.quantizer.codebook
            targets = [codebook(ids).float() for ids in token_ids]
            return map_losses(
                [found.float().flatten(2).transpose(1, 2) for found in maps],
                targets,
                token_ids,
                codebook.weight.detach().float(),
                settings,
            )


def map_losses(
    maps: list[Tensor],
    targets: list[Tensor],
    token_ids: list[Tensor],
    codebook: Tensor,
    settings: K2NTraining,
) -> dict[str, Tensor]:
    """
    maps, targets: tokens (N, side * side, C) of each scale, coarse to fine
    token_ids:     (N, side * side), rows of the codebook (V, C) that the targets are
    """
    scales = range(len(maps))
    error = torch.stack([F.smooth_l1_loss(maps[k], targets[k], beta=BETA) for k in scales]).mean()
    # Squared distance, without the part that all codes have in common.
    logits = [LOGIT_SCALE * (2 * found @ codebook.T - codebook.square().sum(1)) for found in maps]
    pairs = list(zip(logits, token_ids, strict=True))
    code = torch.stack([F.cross_entropy(a.flatten(0, 1), ids.flatten()) for a, ids in pairs]).mean()
    total = F.smooth_l1_loss(_sum(maps), _sum(targets), beta=BETA)
    right = [(found.detach().argmax(-1) == ids).float().mean() for found, ids in pairs]
    return {
        "loss": error + settings.code * code + settings.sum * total,
        "maps": error,
        "code": code,
        "sum": total,
        "accuracy": torch.stack(right).mean(),
    }


def _sum(maps: list[Tensor]) -> Tensor:
    """All maps at the size of the last one: (N, C, side, side)."""
    sides = [round(tokens.shape[1] ** 0.5) for tokens in maps]
    squares = [
        tokens.transpose(1, 2).unflatten(2, (side, side))
        for tokens, side in zip(maps, sides, strict=True)
    ]
    return torch.stack([resample(square, sides[-1], "bilinear") for square in squares]).sum(0)


def learning_parts(network: K2N) -> list[nn.Module]:
    """Of the encoder: the first convolution, the first level and every norm's scale and shift."""
    first = [network.encoder.conv_in, network.encoder.down[0]]
    own = {module for part in first for module in part.modules()}
    norms = [
        module
        for module in network.encoder.modules()
        if isinstance(module, nn.GroupNorm) and module not in own
    ]
    return [*first, *norms]


TRAINED = TrainedKind(
    stages=(
        Stage(
            name="maps",
            loss=lambda c: K2NLoss(c.model, c.own),
            data=small_pairs,
        ),
    ),
    model=started,
    tile_size=lambda pair: pair.tile_size,
    checkpoint=checkpoint,
    own=K2NTraining,
    takes=frozenset({"base"}),
    example=released_sizes,
)
