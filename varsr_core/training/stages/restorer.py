"""The stages that make a restorer: next-scale prediction, teacher-forced, and the refiner.

Paper, sections 3.4 and 3.5: cross-entropy over the tokens of all scales, plus twice the diffusion
loss, whose gradient flows into the transformer. The tokenizer stays as it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...varsr.model import VARSR
from ...varsr.refiner import RESIDUAL_SCALE
from ...varsr.sampling import refiner_condition
from ..data.pairs import PairBatch
from ..losses.diffusion import DiffusionTables, diffusion_loss
from ..teacher_forcing import all_hidden
from .encoded_target import EncodedPair, EncodedTarget
from .loss import StageLoss
from .visible_target import VisibleTarget


class ISRLoss(StageLoss[PairBatch]):
    """Cross-entropy of the tokens, and the refiner's diffusion loss.

    unseen: of the targets, see VisibleTarget
    """

    def __init__(self, model: VARSR, diffusion_weight: float = 2.0, unseen: float = 1.0) -> None:
        super().__init__(model)
        self.diffusion_weight = diffusion_weight
        self.encode = VisibleTarget(model, unseen)
        self.tables: DiffusionTables | None = None

    def trained(self) -> list[nn.Module]:
        model = self.model
        return [model.prefix_encoder, model.word_embed, model.transformer, model.refiner]

    def inputs(self, batch: PairBatch) -> EncodedPair:
        lq, target, classes = batch
        return EncodedPair(lq, classes, self.encode(lq, target, classes))

    def forward(
        self, lq: Tensor, classes: Tensor, target: EncodedTarget, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """lq: (N, 3, tile, tile) in [0, 1]; classes: (N,); returns scalars, `loss` the sum."""
        model = self.model
        prefix = model.encode_prefix(lq)
        hidden = all_hidden(model, prefix, target.latents.unbind(1), classes)
        logits = model.transformer.logits(hidden, classes)
        tokens = F.cross_entropy(logits.flatten(0, 1), target.token_ids.flatten())
        diffusion = self._diffusion(hidden, logits, target, generator)
        with torch.no_grad():
            right = (logits.argmax(dim=-1) == target.token_ids).float().mean()
        return {
            "loss": tokens + self.diffusion_weight * diffusion,
            "tokens": tokens,
            "diffusion": diffusion,
            "accuracy": right,
        }

    def _diffusion(
        self, hidden: Tensor, logits: Tensor, target: EncodedTarget, generator: torch.Generator
    ) -> Tensor:
        """The refiner learns what the transformer's own, greedy last ids leave open."""
        model, last = self.model, self.model.config.schedule.final_side**2
        ids = logits[:, -last:].argmax(dim=-1)
        words = model.quantizer.codebook(ids).float()
        residual = target.rest.flatten(2).transpose(1, 2) - words
        condition = refiner_condition(model, hidden[None, :, -last:], ids)
        if self.tables is None:
            self.tables = DiffusionTables(hidden.device)
        return diffusion_loss(
            model.refiner,
            condition.flatten(0, 2),
            (residual / RESIDUAL_SCALE).flatten(0, 1),
            self.tables,
            generator,
        )


class PretrainingLoss(ISRLoss):
    """The same without a low-quality picture: the model learns what pictures look like."""

    def inputs(self, batch: PairBatch) -> EncodedPair:
        return super().inputs(batch._replace(lq=torch.full_like(batch.target, 0.5)))
