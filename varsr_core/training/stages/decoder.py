"""Two stages in which the decoder meets other latents than the encoder's.

`sight`, before the restorer: the prefix's estimate of the latent (see prefix.py) is trained
together with the decoder by what the decoded estimate looks like; squared error alone would leave
it blurred.

`decoder`, the last: latents as the restorer makes them. A small restorer's differ from any that the
tokenizer has seen, and the decoder shows it: blocks, stripes, colour noise. Here it learns to make
of them what the good picture looks like. Tokens do not change.

In both, some pictures are decoded from their own latent, so that the tokenizer keeps its round
trip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...runtime.precision import without_autocast
from ...tiling.noise import TileSeed
from ...tiling.restorer import all_steps
from ...varsr.model import VARSR
from ...varsr.restorer import VARSRRestorer
from ...varsr.sampling import RefineSettings, SampleSettings
from ..data.pairs import PairBatch
from ..losses.discriminator import Discriminator, adversarial_losses
from ..losses.picture import Features, feature_loss, picture_loss, pyramid_loss
from ..steps.draws import Rows, draw_rows, rows_of
from .loss import StageLoss
from .prefix import estimate_error, estimated_latent

ESTIMATE_WEIGHT = 0.1  # of the estimate's squared error in `sight`: it is to keep the same codes


@dataclass(frozen=True)
class DecoderSettings:
    """guidance:    as the model is meant to be sampled
    own_share:   of the pictures are decoded from their own latent
    adversarial: weight of the discriminator's loss for the decoder, where features are given
    """

    guidance: float = 0.0
    own_share: float = 0.25
    perceptual: float = 1.0
    adversarial: float = 0.0


class DecoderLoss(StageLoss[PairBatch]):
    """What decoded latents look like, beside the good pictures."""

    def __init__(
        self, model: VARSR, settings: DecoderSettings, features: Features | None = None
    ) -> None:
        super().__init__(model)
        self.settings, self.features = settings, features
        self.discriminator: Discriminator | None = None
        if features is not None and settings.adversarial > 0:
            tile = model.config.tile_size
            device = model.quantizer.codebook.weight.device
            maps = features(torch.zeros(1, 3, tile, tile, device=device))
            self.discriminator = Discriminator([*(m.shape[1] for m in maps), 3]).to(device)

    def trained(self) -> list[nn.Module]:
        discriminators = [] if self.discriminator is None else [self.discriminator]
        return [self.model.post_quantizer, self.model.decoder, *discriminators]

    def inputs(self, batch: PairBatch) -> tuple[Tensor, ...]:
        return batch.lq, batch.target

    def forward(self, lq: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """lq, target: (N, 3, tile, tile) in [0, 1]; returns scalars, `loss` the sum."""
        return self._losses(self._latents(lq, target, generator), target)

    def _losses(self, latent: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Of what the decoder makes of latents (N, C, S, S)."""
        decoded = self.model.decode_unclamped(latent)
        if self.features is not None and self.discriminator is not None:
            return self._with_discriminator(decoded, target, self.features, self.discriminator)
        pixels, perceptual = picture_loss(decoded, target, self.features)
        loss = pixels + self.settings.perceptual * perceptual
        return {"loss": loss, "pixels": pixels, "perceptual": perceptual}

    def _with_discriminator(
        self, decoded: Tensor, target: Tensor, features: Features, discriminator: Discriminator
    ) -> dict[str, Tensor]:
        """The same losses, and the discriminator's."""
        pixels = F.l1_loss(decoded, target)
        maps, wanted = features(decoded), features(target)
        perceptual = pyramid_loss(decoded, target) + feature_loss(maps, wanted)
        adversarial, own = adversarial_losses(
            discriminator, [*maps, decoded.float()], [*wanted, target]
        )
        loss = pixels + self.settings.perceptual * perceptual
        loss = loss + self.settings.adversarial * adversarial + own
        return {
            "loss": loss,
            "pixels": pixels,
            "perceptual": perceptual,
            "adversarial": adversarial,
            "judge": own,  # the column's name in logs that runs go on with
        }

    def _latents(self, lq: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        """Of the first pictures their own, of the others from the low-quality picture."""
        own, others = self._shares(len(lq), generator)
        parts = []
        # Drawn for the whole batch, also where this pass has none of its samples.
        if own.whole > 0:
            parts.append(self._own(target[: own.count], own, generator))
        if others.whole > 0:
            parts.append(self._restored(lq[own.count :], others, generator))
        return torch.cat(parts)

    def _shares(self, count: int, generator: torch.Generator) -> tuple[Rows, Rows]:
        """Of the first samples of the batch, decoded from their own latents, and of the others."""
        rows = rows_of(generator, count)
        own = round(self.settings.own_share * rows.whole)
        return rows.of(0, own), rows.of(own, rows.whole - own)

    @torch.no_grad()
    def _own(self, target: Tensor, rows: Rows, generator: torch.Generator) -> Tensor:
        """Latents (N, C, S, S) of good pictures, at random quantized or not."""
        drawn = draw_rows(generator, rows, lambda n: torch.rand(n, generator=generator))
        if rows.count == 0:
            return self._no_latents(target)
        with without_autocast(target.device):  # codes are found in float32
            latent = self.model.encode_latent(target)
            _, totals, _ = self.model.quantizer.encode(latent)
        quantized = drawn < 0.5
        return torch.where(quantized.to(latent.device)[:, None, None, None], totals[-1], latent)

    def _no_latents(self, like: Tensor) -> Tensor:
        """(0, C, S, S)"""
        side = self.model.config.schedule.final_side
        return like.new_zeros(0, self.model.config.tokenizer.latent_channels, side, side)

    @torch.no_grad()
    def _restored(self, lq: Tensor, rows: Rows, generator: torch.Generator) -> Tensor:
        """Latents (N, C, S, S) that the restorer makes, the refiner's residual included."""
        drawn = draw_rows(
            generator, rows, lambda n: torch.randint(2**31, (n,), generator=generator)
        )
        if rows.count == 0:
            return self._no_latents(lq)
        # Other noise for every picture and step.
        seeds = [TileSeed(seed, seed) for seed in drawn.tolist()]
        guidance = self.settings.guidance
        with without_autocast(lq.device):
            restorer = VARSRRestorer(
                self.model, SampleSettings(guidance=guidance), RefineSettings(guidance=guidance)
            )
            return all_steps(restorer, lq, seeds).latent


class PrefixDecoderLoss(DecoderLoss):
    """The same for what the prefix says of a picture, which is trained with the decoder."""

    def trained(self) -> list[nn.Module]:
        return [self.model.prefix_encoder, *super().trained()]

    def forward(self, lq: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        latents = self._latents(lq, target, generator)
        losses = self._losses(latents, target)
        own = self._shares(len(lq), generator)[0].count
        if own == len(lq):
            return losses
        with torch.no_grad():
            latent = self.model.encode_latent(target[own:])
        error = estimate_error(latents[own:], latent.float())
        return {**losses, "loss": losses["loss"] + ESTIMATE_WEIGHT * error, "error": error}

    def _restored(self, lq: Tensor, rows: Rows, generator: torch.Generator) -> Tensor:
        if rows.count == 0:
            return self._no_latents(lq)
        return estimated_latent(self.model, self.model.encode_prefix(lq))
