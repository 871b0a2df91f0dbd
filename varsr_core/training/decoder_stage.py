"""The last stage: the decoder meets latents as the restorer makes them, not as the encoder does.

A small restorer's latents differ from any that the tokenizer has seen, and the decoder shows it:
blocks, stripes, colour noise. Here it learns to make of them what the good picture looks like.
Some pictures are decoded from their own latent, so that the tokenizer keeps its round trip.
Tokens do not change.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..noise import TileSeed
from ..varsr.model import VARSR
from ..varsr.restorer import VARSRRestorer
from ..varsr.sample import RefineSettings, SampleSettings
from .picture_loss import Features, picture_loss
from .samples import Sampling


@dataclass(frozen=True)
class DecoderSettings:
    """guidance: as the model is meant to be sampled; own_share: pictures from their own latent."""

    guidance: float = 0.0
    own_share: float = 0.25
    perceptual: float = 1.0


class DecoderLoss(nn.Module):
    """One step's losses; a module, so that data parallel training can wrap it."""

    def __init__(
        self, model: VARSR, settings: DecoderSettings, features: Features | None = None
    ) -> None:
        super().__init__()
        self.model, self.settings, self.features = model, settings, features

    def trained(self) -> list[nn.Module]:
        """The parts this stage changes."""
        return [self.model.post_quantizer, self.model.decoder]

    def forward(self, lq: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """lq, target: (N, 3, tile, tile) in [0, 1]; returns scalars, `loss` the sum."""
        decoded = self.model.decode_unclamped(self._latents(lq, target, generator))
        pixels, perceptual = picture_loss(decoded, target, self.features)
        loss = pixels + self.settings.perceptual * perceptual
        return {"loss": loss, "pixels": pixels, "perceptual": perceptual}

    @torch.no_grad()
    def _latents(self, lq: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        """Of the first pictures their own, of the others as sampled: (N, C, S, S)."""
        own = round(self.settings.own_share * len(lq))
        parts = []
        with torch.autocast(lq.device.type, enabled=False):  # codes are found in float32
            if own > 0:
                parts.append(self._own(target[:own], generator))
            if own < len(lq):
                parts.append(self._sampled(lq[own:], generator))
        return torch.cat(parts)

    def _own(self, target: Tensor, generator: torch.Generator) -> Tensor:
        """Latents (N, C, S, S) of good pictures, at random quantized or not."""
        latent = self.model.encode_latent(target)
        _, totals, _ = self.model.quantizer.encode(latent)
        quantized = torch.rand(len(target), generator=generator) < 0.5
        return torch.where(quantized.to(latent.device)[:, None, None, None], totals[-1], latent)

    def _sampled(self, lq: Tensor, generator: torch.Generator) -> Tensor:
        """Latents (N, C, S, S) that the restorer makes, the refiner's share included."""
        drawn = torch.randint(2**31, (len(lq),), generator=generator).tolist()
        seeds = [TileSeed(seed, seed) for seed in drawn]  # other noise for every picture and step
        guidance = self.settings.guidance
        with Sampling(self.model):
            restorer = VARSRRestorer(
                self.model, SampleSettings(guidance=guidance), RefineSettings(guidance=guidance)
            )
            state = restorer.start(lq, seeds)
            for k in range(restorer.steps):
                restorer.step(state, k)
        return state.latent
