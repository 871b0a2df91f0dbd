"""VARSR as the loop over tiles sees it: whole, or its sampling alone for the staged nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..tiling.noise import TileSeed
from .decoding import VARSRDecoder, linear_preview
from .memory import tile_bytes
from .model import VARSR
from .results import TokenPyramid
from .sampling import (
    RefineSettings,
    SampleSettings,
    SampleState,
    hidden_by_tile,
    keep_scale,
    refine,
    sample_scale,
    start_sampling,
)


@dataclass(frozen=True)
class VARSRRestorer:
    """All scales, then the refiner; see `Restorer` in tiling/restorer.py."""

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
    def device(self) -> torch.device:
        return self.model.word_embed.weight.device

    @property
    def tile_bytes(self) -> int:
        return tile_bytes(self.model)

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
        else:
            rows = hidden_by_tile(self.model, state)
            # Guidance is chosen for sampling; where it ended early, the refiner goes without.
            refining = self.refining.for_rows(rows.shape[1], intended=True)
            last_ids, seeds = state.token_ids[-1], state.seeds
            refined = refine(self.model, state.latent, rows, last_ids, seeds, refining)
            state.latents.append(refined)

    def preview(self, latent: Tensor) -> Tensor:
        return linear_preview(self.model)(latent)

    @property
    def decoder(self) -> VARSRDecoder:
        return VARSRDecoder(self.model)


class SamplingWork:
    """Scales `0 .. steps - 1`, of which the first `settled` are taken from `tokens`.

    token_ids: per scale (tiles, side * side), once tiles finished
    hidden:    (tiles, rows, S * S, D) of the last scale of all, or None
    """

    def __init__(
        self,
        model: VARSR,
        prefix: Tensor,
        settings: SampleSettings,
        seeds: Sequence[TileSeed],
        device: torch.device,
        tokens: TokenPyramid | None,
        settled: int,
        steps: int,
    ) -> None:
        self.model, self.prefix, self.settings = model, prefix, settings
        self.seeds, self.device, self.tokens = seeds, device, tokens
        self.settled, self.steps = settled, steps
        sides = model.config.schedule.sides[:steps]
        self.token_ids = [torch.zeros(len(prefix), side**2, dtype=torch.long) for side in sides]
        self.hidden: Tensor | None = None

    def describe(self, k: int) -> str:
        return f"scale {k + 1} of {self.steps}"

    def start(self, numbers: Sequence[int]) -> SampleState:
        prefix = self.prefix[list(numbers)].to(self.device)
        return start_sampling(self.model, prefix, self.settings, [self.seeds[n] for n in numbers])

    def step(self, state: SampleState, numbers: Sequence[int], k: int) -> None:
        if self.tokens is None or k >= self.settled:
            sample_scale(self.model, state, k, self.settings)
            return
        ids, latents = self.tokens.token_ids[k], self.tokens.latents[k]
        part = list(numbers)
        keep_scale(self.model, state, k, ids[part].to(self.device), latents[part].to(self.device))

    def finish(self, state: SampleState, numbers: Sequence[int]) -> None:
        numbers = list(numbers)
        for kept, ids in zip(self.token_ids, state.token_ids, strict=True):
            kept[numbers] = ids.cpu()
        if self.steps < self.model.config.schedule.num_scales:
            return
        hidden = hidden_by_tile(self.model, state).cpu()
        if self.hidden is None:
            self.hidden = hidden.new_zeros(len(self.prefix), *hidden.shape[1:])
        self.hidden[numbers] = hidden
