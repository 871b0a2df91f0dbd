"""The stage that makes a tokenizer whose decoder serves both tokens and refined latents.

Reconstruction, perceptual-like and codebook losses. Scale dropout: some pictures are decoded from
their first scales only, some from the latent before any quantization, so that the decoder copes
with all that sampling and the refiner may hand it (paper, section 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...runtime.precision import without_autocast
from ...varsr.model import VARSR
from ...varsr.quantizer import Quantizer
from ..data.pictures import PictureBatch
from ..losses.picture import Features, picture_loss
from ..steps.draws import draw_rows, rows_of
from .loss import StageLoss


@dataclass(frozen=True)
class TokenizerSettings:
    commitment: float = 0.25  # pull of the latent towards its codes
    # Deviation that the latent as a whole is held to. Without it the latent shrinks, and what
    # quantization leaves over no longer fills the refiner's range of -0.6 to 0.6.
    deviation: float = 0.6
    perceptual: float = 1.0
    continuous_share: float = 0.5  # pictures decoded from the latent before quantization
    dropped_share: float = 0.1  # pictures decoded from their first scales only


class TokenizerLoss(StageLoss[PictureBatch]):
    """Reconstruction, perceptual-like and codebook losses, and the latent's deviation."""

    def __init__(
        self, model: VARSR, settings: TokenizerSettings, features: Features | None = None
    ) -> None:
        super().__init__(model)
        self.settings = settings
        self.features = features

    def trained(self) -> list[nn.Module]:
        model = self.model
        return [
            model.encoder,
            model.pre_quantizer,
            model.quantizer,
            model.post_quantizer,
            model.decoder,
        ]

    def inputs(self, batch: PictureBatch) -> tuple[Tensor, ...]:
        return (batch.pictures,)

    def forward(self, pictures: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """pictures: (N, 3, H, W) in [0, 1]; returns scalars, `loss` the weighted sum."""
        latent = self.model.encode_latent(pictures)
        with without_autocast(latent.device):  # codes are found in float32
            totals, codebook = quantize(self.model, latent, self.settings.commitment)
        decoded = self.model.decode_unclamped(self._choose(latent, totals, generator))
        pixels, perceptual = picture_loss(decoded, pictures, self.features)
        spread = (latent.square().mean().sqrt() - self.settings.deviation).square()
        loss = pixels + self.settings.perceptual * perceptual + codebook + spread
        return {
            "loss": loss,
            "pixels": pixels,
            "perceptual": perceptual,
            "codebook": codebook,
            "spread": spread,
        }

    def _choose(self, latent: Tensor, totals: list[Tensor], generator: torch.Generator) -> Tensor:
        """For each picture, the latent its decoder gets."""
        rows = rows_of(generator, len(latent))
        draws = draw_rows(generator, rows, lambda n: torch.rand(n, 2, generator=generator))
        chosen = []
        for i, (kind, depth) in enumerate(draws.tolist()):
            if kind < self.settings.continuous_share:
                chosen.append(latent[i])
            elif kind < self.settings.continuous_share + self.settings.dropped_share:
                chosen.append(totals[int(depth * (len(totals) - 1))][i])
            else:
                chosen.append(totals[-1][i])
        return torch.stack(chosen)


def quantize(model: VARSR, latent: Tensor, commitment: float) -> tuple[list[Tensor], Tensor]:
    """The latent after each scale, gradients passed straight through, and the codebook loss."""
    quantizer = model.quantizer
    total, losses, totals = torch.zeros_like(latent), [], []
    for scale in range(model.config.schedule.num_scales):
        rest = latent.detach() - total.detach()
        ids = quantizer.nearest(quantizer.downsample(rest, scale))
        total = total + quantizer.residual(ids, scale)
        losses.append(
            F.mse_loss(total, latent.detach()) + commitment * F.mse_loss(latent, total.detach())
        )
        totals.append(latent + (total - latent).detach())
    return totals, torch.stack(losses).mean()


@torch.no_grad()
def revive_codes(model: VARSR, pictures: Tensor, generator: torch.Generator) -> int:
    """Moves codes that no token of these pictures uses onto some of these tokens.

    Returns how many were moved. Called now and then early in training, when codes die.
    """
    latent = model.encode_latent(pictures)
    with without_autocast(latent.device):  # codes are found in float32
        used, tokens, _ = assign(model.quantizer, latent)
    codebook = model.quantizer.codebook
    dead = (used.bincount(minlength=codebook.num_embeddings) == 0).nonzero().flatten()
    pick = torch.randint(len(tokens), (len(dead),), generator=generator).to(dead.device)
    codebook.weight[dead] = tokens[pick].to(codebook.weight)
    return len(dead)


def assign(quantizer: Quantizer, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ids of all scales' tokens, the tokens before they were quantized, and what no token says.

    latent:  (N, C, S, S) float32
    returns  (M,) int64, (M, C), (N, C, S, S)
    """
    rest = latent
    ids, tokens = [], []
    for scale in range(quantizer.schedule.num_scales):
        tokens.append(quantizer.downsample(rest, scale))
        ids.append(quantizer.nearest(tokens[-1]))
        rest = rest - quantizer.residual(ids[-1], scale)
    return torch.cat(ids, dim=1).flatten(), torch.cat(tokens, dim=1).flatten(0, 1), rest
