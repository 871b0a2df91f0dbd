"""Two stages in which the decoder meets other latents than the encoder's.

`sight`, before the restorer: the prefix's estimate of the latent (prefix_stage.py) is trained
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

from ...tiling.noise import TileSeed
from ...varsr.model import VARSR
from ...varsr.restorer import VARSRRestorer
from ...varsr.sampling import RefineSettings, SampleSettings
from ..closed_form.prefix_stage import estimate_error, estimated_latent
from ..losses.discriminator import Discriminator, adversarial_losses
from ..losses.picture import Features, feature_loss, picture_loss, pyramid_loss

ANCHOR = 0.1  # of the estimate's squared error in `sight`: it is to be told in the same codes


@dataclass(frozen=True)
class DecoderSettings:
    """guidance:    as the model is meant to be sampled
    own_share:   of the pictures are decoded from their own latent
    adversarial: weight of the judge's view (see discriminator.py), where features are given
    """

    guidance: float = 0.0
    own_share: float = 0.25
    perceptual: float = 1.0
    adversarial: float = 0.0


class DecoderLoss(nn.Module):
    """One step's losses; a module, so that data parallel training can wrap it."""

    def __init__(
        self, model: VARSR, settings: DecoderSettings, features: Features | None = None
    ) -> None:
        super().__init__()
        self.model, self.settings, self.features = model, settings, features
        self.judge: Discriminator | None = None
        if features is not None and settings.adversarial > 0:
            tile = model.config.tile_size
            device = model.quantizer.codebook.weight.device
            maps = features(torch.zeros(1, 3, tile, tile, device=device))
            self.judge = Discriminator([*(m.shape[1] for m in maps), 3]).to(device)

    def trained(self) -> list[nn.Module]:
        """The parts this stage changes."""
        judges = [] if self.judge is None else [self.judge]
        return [self.model.post_quantizer, self.model.decoder, *judges]

    def forward(self, lq: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """lq, target: (N, 3, tile, tile) in [0, 1]; returns scalars, `loss` the sum."""
        decoded = self.model.decode_unclamped(self._latents(lq, target, generator))
        if self.judge is None:
            pixels, perceptual = picture_loss(decoded, target, self.features)
            loss = pixels + self.settings.perceptual * perceptual
            return {"loss": loss, "pixels": pixels, "perceptual": perceptual}
        return self._judged(decoded, target)

    def _judged(self, decoded: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The same losses, and the judge's."""
        pixels = F.l1_loss(decoded, target)
        maps, wanted = self.features(decoded), self.features(target)
        perceptual = pyramid_loss(decoded, target) + feature_loss(maps, wanted)
        adversarial, judge = adversarial_losses(
            self.judge, [*maps, decoded.float()], [*wanted, target]
        )
        loss = pixels + self.settings.perceptual * perceptual
        loss = loss + self.settings.adversarial * adversarial + judge
        return {
            "loss": loss,
            "pixels": pixels,
            "perceptual": perceptual,
            "adversarial": adversarial,
            "judge": judge,
        }

    def _latents(self, lq: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        """Of the first pictures their own, of the others as sampled: (N, C, S, S)."""
        own = round(self.settings.own_share * len(lq))
        parts = []
        if own > 0:
            parts.append(self._own(target[:own], generator))
        if own < len(lq):
            parts.append(self._seen(lq[own:], generator))
        return torch.cat(parts)

    @torch.no_grad()
    def _own(self, target: Tensor, generator: torch.Generator) -> Tensor:
        """Latents (N, C, S, S) of good pictures, at random quantized or not."""
        with torch.autocast(target.device.type, enabled=False):  # codes are found in float32
            latent = self.model.encode_latent(target)
            _, totals, _ = self.model.quantizer.encode(latent)
        quantized = torch.rand(len(target), generator=generator) < 0.5
        return torch.where(quantized.to(latent.device)[:, None, None, None], totals[-1], latent)

    @torch.no_grad()
    def _seen(self, lq: Tensor, generator: torch.Generator) -> Tensor:
        """Latents (N, C, S, S) that the restorer makes, the refiner's share included."""
        drawn = torch.randint(2**31, (len(lq),), generator=generator).tolist()
        seeds = [TileSeed(seed, seed) for seed in drawn]  # other noise for every picture and step
        guidance = self.settings.guidance
        with torch.autocast(lq.device.type, enabled=False):
            restorer = VARSRRestorer(
                self.model, SampleSettings(guidance=guidance), RefineSettings(guidance=guidance)
            )
            state = restorer.start(lq, seeds)
            for k in range(restorer.steps):
                restorer.step(state, k)
        return state.latent


class SightLoss(DecoderLoss):
    """The same for what the prefix says of a picture, which is trained with the decoder."""

    def trained(self) -> list[nn.Module]:
        return [self.model.prefix_encoder, *super().trained()]

    def forward(self, lq: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self.estimate = None
        losses = super().forward(lq, target, generator)
        if self.estimate is None:  # all were decoded from their own latent
            return losses
        with torch.no_grad():
            latent = self.model.encode_latent(target[-len(self.estimate) :])
        error = estimate_error(self.estimate, latent.float())
        return {**losses, "loss": losses["loss"] + ANCHOR * error, "error": error}

    def _seen(self, lq: Tensor, generator: torch.Generator) -> Tensor:
        self.estimate = estimated_latent(self.model, self.model.encode_prefix(lq))
        return self.estimate
