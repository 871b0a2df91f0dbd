"""The stage that makes a restorer: next-scale prediction, teacher-forced, and the refiner.

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
from ..losses.diffusion import DiffusionTables, diffusion_loss
from ..teacher_forcing import all_hidden
from .encoded_target import EncodedTarget


class ISRLoss(nn.Module):
    """One step's losses; a module, so that data parallel training can wrap it."""

    def __init__(self, model: VARSR, diffusion_weight: float = 2.0) -> None:
        super().__init__()
        self.model = model
        self.diffusion_weight = diffusion_weight
        self.tables: DiffusionTables | None = None

    def trained(self) -> list[nn.Module]:
        """The parts this stage changes."""
        model = self.model
        return [model.prefix_encoder, model.word_embed, model.transformer, model.refiner]

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
