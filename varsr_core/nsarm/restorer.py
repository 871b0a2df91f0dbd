"""NSARM as `upscale()` sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..noise import TileSeed
from ..norm_statistics import NormFn
from ..sketch import fit_sketch
from .config import FORCED
from .model import NSARM
from .sample import SampleSettings, SampleState, force_scales, sample_scale, start_sampling
from .text import TextState


@dataclass(frozen=True)
class NSARMDecoder:
    model: NSARM
    features: int = 1

    @property
    def cells(self) -> int:
        return self.model.config.final_cells

    @property
    def pixels(self) -> int:
        return self.model.config.vae.downsampling

    @property
    def context(self) -> int:
        return self.model.vae.decoder.context

    def decode(self, latent: Tensor) -> Tensor:
        return self.model.decode(latent)

    def coarse(self, latent: Tensor) -> Tensor:
        return self.model.vae.decoder.coarse(latent.to(self.model.vae_dtype))

    def fine(self, features: Tensor, norm: NormFn) -> Tensor:
        return self.model.to_picture(self.model.vae.decoder.fine(features, norm))


@dataclass(frozen=True)
class NSARMRestorer:
    """The forced scales, then one scale after the other; see `Restorer` in upscale.py.

    texts: of the prompt, and where guidance is not 1 of no prompt (Transformer.read)
    """

    model: NSARM
    texts: Sequence[TextState]
    sampling: SampleSettings = SampleSettings()

    @property
    def tile_size(self) -> int:
        return self.model.config.tile_size

    @property
    def reduction(self) -> int:
        return self.tile_size // self.model.config.lq_size

    @property
    def align(self) -> int:
        return self.model.config.vae.downsampling

    @property
    def steps(self) -> int:
        return 1 + self.model.config.schedule.num_scales - FORCED

    def describe(self, k: int) -> str:
        scales = self.model.config.schedule.num_scales
        return f"scale {k + FORCED} of {scales}" if k else f"scales 1 to {FORCED} of {scales}"

    def start(self, lq: Tensor, seeds: Sequence[TileSeed]) -> SampleState:
        forced = self.model.forced_codes(self.model.encode(lq))
        return start_sampling(self.model, forced, self.texts, seeds)

    def step(self, state: SampleState, k: int) -> None:
        if k == 0:
            force_scales(self.model, state, self.sampling)
        else:
            sample_scale(self.model, state, FORCED + k - 1, self.sampling)

    def sketch(self, latent: Tensor) -> Tensor:
        if self.model.sketch is None:
            self.model.sketch = fit_sketch(self.model.encode, latent.device)
        return self.model.sketch(latent)

    @property
    def decoder(self) -> NSARMDecoder:
        return NSARMDecoder(self.model)
