"""The stages that make a restorer: next-scale prediction, teacher-forced, and the refiner.

Paper, sections 3.4 and 3.5: cross-entropy over the tokens of all scales, plus twice the diffusion
loss, whose gradient flows into the transformer. The tokenizer stays as it is. What goes beyond the
paper is off unless asked for: see ISRSettings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...varsr.model import VARSR
from ...varsr.sampling import refiner_condition
from ..data.pairs import PairBatch
from ..losses.diffusion import ResidualLoss
from ..steps.blocks import PLAIN, BlockSettings
from ..steps.teacher_forcing import all_hidden
from .dynamic_sampling import DynamicSampling, encode_mistaken
from .encoded_target import EncodedPair, EncodedTarget
from .loss import StageLoss
from .prefix import estimate_error, estimated_latent
from .visible_target import VisibleTarget


@dataclass(frozen=True)
class ISRSettings:
    """What a small model, trained for hours and not for weeks, may be helped by.

    prefix:   weight of the squared error of the prefix's estimate of the latent (see prefix.py),
              which holds the prefix encoder to what its own stage taught it
    hidden:   the same for an estimate that a linear layer, thrown away afterwards, makes of the
              last scale's hidden states: the refiner cannot add what these do not know
    sampling: mistakes among the tokens that later scales build on
    """

    prefix: float = 0.0
    hidden: float = 0.0
    sampling: DynamicSampling = DynamicSampling()


class ISRLoss(StageLoss[PairBatch]):
    """Cross-entropy of the tokens, and the refiner's diffusion loss.

    unseen: of the targets, see VisibleTarget
    blocks: how the transformer's blocks are run
    """

    def __init__(
        self,
        model: VARSR,
        diffusion_weight: float = 2.0,
        unseen: float = 1.0,
        settings: ISRSettings | None = None,
        blocks: BlockSettings = PLAIN,
    ) -> None:
        super().__init__(model)
        self.diffusion_weight = diffusion_weight
        self.settings, self.blocks = settings or ISRSettings(), blocks
        self.encode = VisibleTarget(model, unseen)
        self.residual = ResidualLoss()
        self.probe: nn.Linear | None = None
        if self.settings.hidden > 0:
            sizes, device = model.config, model.quantizer.codebook.weight.device
            channels = sizes.tokenizer.latent_channels
            self.probe = nn.Linear(sizes.transformer.width, channels, device=device)
            nn.init.zeros_(self.probe.weight)  # drawn from no random state
            nn.init.zeros_(self.probe.bias)

    def trained(self) -> list[nn.Module]:
        model = self.model
        own = [] if self.probe is None else [self.probe]
        return [model.prefix_encoder, model.word_embed, model.transformer, model.refiner, *own]

    def shards(self) -> list[nn.Module]:
        blocks = self.model.transformer.blocks
        # The modulation of all blocks is asked for before the first one runs.
        return [part for block in blocks for part in (block.modulation, block)]

    def inputs(self, batch: PairBatch) -> EncodedPair:
        lq, target, classes = batch
        return EncodedPair(lq, classes, self.encode(lq, target, classes))

    def forward(
        self, lq: Tensor, classes: Tensor, target: EncodedTarget, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """lq: (N, 3, tile, tile) in [0, 1]; classes: (N,); returns scalars, `loss` the sum."""
        model, settings = self.model, self.settings
        if settings.sampling.share > 0:
            target = encode_mistaken(model, target.whole, settings.sampling, generator)
        prefix = self._prefix(lq)
        # In evaluation no branch is dropped.
        dropping = generator if self.training else None
        latents = target.latents.unbind(1)
        hidden = all_hidden(model, prefix, latents, classes, self.blocks, dropping)
        logits = model.transformer.logits(hidden, classes)
        tokens = F.cross_entropy(logits.flatten(0, 1), target.token_ids.flatten())
        diffusion = self._diffusion(hidden, logits, target, generator)
        with torch.no_grad():
            right = (logits.argmax(dim=-1) == target.token_ids).float().mean()
        loss = tokens + self.diffusion_weight * diffusion
        losses = {"tokens": tokens, "diffusion": diffusion, "accuracy": right}
        for name, weight, error in self._estimates(prefix, hidden, target.whole):
            losses[name], loss = error, loss + weight * error
        return {"loss": loss, **losses}

    def _prefix(self, lq: Tensor) -> Tensor:
        """(N, 3, tile, tile) in [0, 1] -> (N, S * S, D)."""
        return self.model.encode_prefix(lq)

    def _estimates(
        self, prefix: Tensor, hidden: Tensor, latent: Tensor
    ) -> Iterator[tuple[str, float, Tensor]]:
        """Name, weight and squared error of what prefix and hidden states say of a latent."""
        settings = self.settings
        if settings.prefix > 0:
            error = estimate_error(estimated_latent(self.model, prefix), latent)
            yield "prefix", settings.prefix, error
        if self.probe is not None:
            side = self.model.config.schedule.final_side
            told = self.probe(hidden[:, -side * side :].float())
            told = told.transpose(1, 2).unflatten(2, (side, side))
            yield "hidden", settings.hidden, estimate_error(told, latent)

    def _diffusion(
        self, hidden: Tensor, logits: Tensor, target: EncodedTarget, generator: torch.Generator
    ) -> Tensor:
        """The refiner learns what the transformer's own, greedy last ids leave open."""
        model, last = self.model, self.model.config.schedule.final_side**2
        ids = logits[:, -last:].argmax(dim=-1)
        words = model.quantizer.codebook(ids).float()
        residual = target.rest.flatten(2).transpose(1, 2) - words
        (condition,) = refiner_condition(model, hidden[None, :, -last:], ids)
        return self.residual(model.refiner, condition, residual, generator)


class PretrainingLoss(ISRLoss):
    """The same without a low-quality picture: the model learns what pictures look like."""

    def inputs(self, batch: PairBatch) -> EncodedPair:
        return super().inputs(batch._replace(lq=torch.full_like(batch.target, 0.5)))
