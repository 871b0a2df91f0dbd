"""VARSR as `upscale()` sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..tiling.noise import TileSeed
from .decoding import VARSRDecoder, linear_preview
from .model import VARSR
from .sampling import (
    RefineSettings,
    SampleSettings,
    SampleState,
    hidden_by_tile,
    refine_latent,
    refiner_noise,
    sample_scale,
    start_sampling,
)


@dataclass(frozen=True)
class VARSRRestorer:
    """All scales, then the refiner; see `Restorer` in restoring.py for the contract."""

    model: VARSR
    sampling: SampleSettings = SampleSettings()
    refining: RefineSettings = RefineSettings()
    reduction: int = field(default=1, init=False)

    @property
    def tile_size(self) -> int:
        return self.model.config.tile_size

    @property
    def align(self) -> int:
        return self.model.config.tokenizer.downsampling

    @property
    def steps(self) -> int:
        return self.model.config.schedule.num_scales + (self.refining.strength != 0)

    def describe(self, k: int) -> str:
        scales = self.model.config.schedule.num_scales
        return f"scale {k + 1} of {scales}" if k < scales else "refiner"

    def start(self, lq: Tensor, seeds: Sequence[TileSeed]) -> SampleState:
        return start_sampling(self.model, self.model.encode_prefix(lq), self.sampling, seeds)

    def step(self, state: SampleState, k: int) -> None:
        if k < self.model.config.schedule.num_scales:
            sample_scale(self.model, state, k, self.sampling)
            return
        noise = refiner_noise(self.model, state.seeds, self.refining.steps)
        # Without negative rows of the last scale there is nothing to push the refiner away from.
        refining = self.refining if state.guided else replace(self.refining, guidance=0.0)
        residual = refine_latent(
            self.model,
            hidden_by_tile(self.model, state),
            state.token_ids[-1],
            noise.to(state.latent.device),
            refining,
        )
        state.latents.append(state.latent + residual)

    def preview(self, latent: Tensor) -> Tensor:
        return linear_preview(self.model)(latent)

    @property
    def decoder(self) -> VARSRDecoder:
        return VARSRDecoder(self.model)
