"""NSARM as `upscale()` sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..nn.linear_preview import fit_preview
from ..tiling.group_norm import NormFn
from ..tiling.noise import TileSeed
from .config import FORCED
from .memory import tile_bytes
from .model import NSARM
from .sampling import SampleSettings, SampleState, force_scales, sample_scale, start_sampling
from .text import TextState
from .text_files import check_features

NO_TEXT_TOKENS = 128  # as long as the captions that the authors used: 50 to 122 words

Part = Literal["autoencoder", "map network", "transformer"]
BringFn = Callable[[Part], None]
"""Called before a part of the model works, so that a host can keep only that one on its device."""


def nothing_to_bring(part: Part) -> None:
    """All parts are where they are wanted."""


@dataclass(frozen=True)
class NSARMDecoder:
    model: NSARM
    bring: BringFn = nothing_to_bring
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
        self.bring("autoencoder")
        return self.model.decode(latent)

    def coarse(self, latent: Tensor) -> Tensor:
        self.bring("autoencoder")
        return self.model.vae.decoder.coarse(latent.to(self.model.vae_dtype))

    def fine(self, features: Tensor, norm: NormFn) -> Tensor:
        return self.model.to_picture(self.model.vae.decoder.fine(features, norm))


@dataclass(frozen=True)
class NSARMRestorer:
    """The forced scales, then one scale after the other; see `Restorer` in tiling/restorer.py.

    features: (n, text width) of a prompt, or None for what the model learned for no text
    bring:    called before a part of the model works
    """

    model: NSARM
    sampling: SampleSettings = SampleSettings()
    features: Tensor | None = None
    bring: BringFn = nothing_to_bring
    _texts: list[TextState] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.features is not None:
            check_features(self.features, "text", self.model.config.transformer.text_width)

    @property
    def tile_size(self) -> int:
        return self.model.config.tile_size

    @property
    def reduction(self) -> int:
        return self.model.config.reduction

    @property
    def align(self) -> int:
        return self.model.config.vae.downsampling

    @property
    def device(self) -> torch.device:
        return next(self.model.transformer.parameters()).device

    @property
    def tile_bytes(self) -> int:
        return tile_bytes(
            self.model, 1 if self.features is None or self.sampling.guidance == 1 else 2
        )

    @property
    def steps(self) -> int:
        return 1 + self.model.config.schedule.num_scales - FORCED

    def describe(self, k: int) -> str:
        scales = self.model.config.schedule.num_scales
        return f"scale {k + FORCED} of {scales}" if k else f"scales 1 to {FORCED} of {scales}"

    def start(self, lq: Tensor, seeds: Sequence[TileSeed]) -> SampleState:
        return self.start_from(self.forced_codes(lq), seeds)

    def forced_codes(self, lq: Tensor) -> list[Tensor]:
        """What `start` does first: (N, 3, lq_size, lq_size) in [0, 1] -> codes of each scale."""
        self.bring("autoencoder")
        latent = self.model.encode(lq)
        self.bring("map network")
        return self.model.forced_codes(latent)

    def start_from(self, codes: list[Tensor], seeds: Sequence[TileSeed]) -> SampleState:
        """What `start` does then."""
        self.bring("transformer")
        if not self._texts:
            self._texts.extend(self._read(codes[0].device))
        return start_sampling(self.model, codes, self._texts, seeds)

    def _read(self, device: torch.device) -> list[TextState]:
        transformer = self.model.transformer
        learned = transformer.text.unconditional
        if self.features is None:
            read = [learned(torch.empty(0, device=device))[:NO_TEXT_TOKENS]]
        else:
            read = [self.features.to(device)]
        if self.sampling.guidance != 1 and self.features is not None:
            # As many as the prompt has, as the weights were trained.
            read.append(learned(read[0])[: len(read[0])])
        return [transformer.read(features) for features in read]

    def step(self, state: SampleState, k: int) -> None:
        self.bring("transformer")
        if k == 0:
            force_scales(self.model, state, self.sampling)
        else:
            sample_scale(self.model, state, FORCED + k - 1, self.sampling)

    def preview(self, latent: Tensor) -> Tensor:
        if self.model.preview is None:
            self.bring("autoencoder")
            self.model.preview = fit_preview(self.model.encode, latent.device)
        return self.model.preview(latent)

    @property
    def decoder(self) -> NSARMDecoder:
        return NSARMDecoder(self.model, self.bring)
