"""NSARM as `upscale()` sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ..nn.parameters import weight_bytes
from ..nn.work import coarse_parts, fine_parts
from ..runtime.defaults import ModelDefaults, resolved
from ..runtime.transfer import brought
from ..runtime.work import Calls, Task
from ..tiling.group_norm import NormFn
from ..tiling.noise import TileSeed
from .config import FORCED
from .memory import tile_bytes
from .model import NSARM
from .sampling import SampleSettings, SampleState, force_scales, sample_scale, start_sampling
from .text import TextState
from .text_files import check_features
from .work import forced_task, scale_task

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

    def coarse_parts(self, height: int, width: int) -> list[Calls]:
        return coarse_parts(self.model.vae.decoder, height, width)

    def fine_parts(self, height: int, width: int) -> list[Calls]:
        return fine_parts(self.model.vae.decoder, height, width)


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
    def defaults(self) -> ModelDefaults:
        return self.model.defaults

    @property
    def _guided(self) -> bool:
        """Whether no text has a say beside the prompt."""
        guidance = resolved(self.sampling, self.defaults).guidance
        return self.features is not None and guidance != 1

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
        return tile_bytes(self.model, 1 + self._guided)

    @property
    def weight_bytes(self) -> int:
        return weight_bytes(self.model)

    @property
    def steps(self) -> int:
        return 1 + self.model.config.schedule.num_scales - FORCED

    @property
    def starting(self) -> Task:
        return forced_task(self.model)

    def task(self, k: int) -> Task:
        """The first step takes all forced scales, and is called by the last of them."""
        tokens = NO_TEXT_TOKENS if self.features is None else len(self.features)
        return scale_task(self.model, k, 1 + self._guided, tokens)

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
            read = [brought(self.features, device)]
        if self._guided:
            # As many as the prompt has, as the weights were trained.
            read.append(learned(read[0])[: len(read[0])])
        return [transformer.read(features) for features in read]

    def step(self, state: SampleState, k: int) -> None:
        self.bring("transformer")
        if k == 0:
            force_scales(self.model, state, self.sampling)
        else:
            sample_scale(self.model, state, FORCED + k - 1, self.sampling)

    @property
    def wider(self) -> NSARMRestorer | None:
        model = self.model.widened()
        return None if model is None else replace(self, model=model)

    @property
    def decoder(self) -> NSARMDecoder:
        return NSARMDecoder(self.model, self.bring)
