"""Sampling and refining as work that the tile loop does, for the staged functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tiling.noise import TileSeed
from .model import VARSR
from .results import TokenPyramid
from .sampling import (
    RefineSettings,
    SampleSettings,
    SampleState,
    hidden_by_tile,
    keep_scale,
    refine_latent,
    refiner_noise,
    sample_scale,
    start_sampling,
)


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
        if k >= self.settled:
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


@dataclass
class RefiningState:
    """Tiles before the refiner's only step, or after it."""

    latent: Tensor

    @property
    def nbytes(self) -> int:
        return self.latent.nbytes

    def select(self, tiles: slice) -> RefiningState:
        return RefiningState(self.latent[tiles].clone())

    def to(self, device: torch.device) -> RefiningState:
        return RefiningState(self.latent.to(device))

    def rewind(self, k: int) -> None:
        """Nothing to forget: the step sets the latent anew."""


class RefiningWork:
    """The refiner, as a run of one step."""

    steps, settled = 1, 0

    def __init__(
        self,
        model: VARSR,
        tokens: TokenPyramid,
        settings: RefineSettings,
        seeds: Sequence[TileSeed],
        device: torch.device,
    ) -> None:
        self.model, self.tokens, self.settings = model, tokens, settings
        self.seeds, self.device = seeds, device

    def describe(self, k: int) -> str:
        return "refiner"

    def start(self, numbers: Sequence[int]) -> RefiningState:
        return RefiningState(self.tokens.latents[-1][list(numbers)].to(self.device))

    def step(self, state: RefiningState, numbers: Sequence[int], k: int) -> None:
        part = list(numbers)
        seeds = [self.seeds[number] for number in part]
        noise = refiner_noise(self.model, seeds, self.settings.steps).to(self.device)
        hidden = self.tokens.hidden[part].to(self.device)
        ids = self.tokens.token_ids[-1][part].to(self.device)
        residual = refine_latent(self.model, hidden, ids, noise, self.settings)
        state.latent = self.tokens.latents[-1][part].to(self.device) + residual

    def finish(self, state: RefiningState, numbers: Sequence[int]) -> None:
        """Nothing but the latents is wanted."""
