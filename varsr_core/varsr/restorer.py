"""VARSR as the loop over tiles sees it: whole, or its sampling alone for the staged nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..nn.parameters import weight_bytes
from ..runtime.background import ahead
from ..runtime.defaults import ModelDefaults, resolved
from ..runtime.transfer import CPU, brought
from ..runtime.work import Task
from ..tiling.noise import TileSeed
from ..tiling.tile_work import changed
from .decoding import VARSRDecoder
from .k2n.coarse import Coarse, with_coarse
from .k2n.config import REDUCTION
from .k2n.work import coarse_task
from .kinds import check_restores
from .memory import tile_bytes
from .model import VARSR
from .results import TokenPyramid
from .sample_state import SampleState
from .sampling import (
    RefineSettings,
    SampleSettings,
    hidden_by_tile,
    keep_scale,
    refine_state,
    refiner_noise,
    sample_scale,
    start_sampling,
    take_scale,
)
from .work import prefix_task, refining_task, scale_task


@dataclass(frozen=True)
class VARSRRestorer:
    """All scales, then the refiner; see `Restorer` in tiling/restorer.py.

    What its settings leave to the model is resolved at once.

    coarse: gives the first scales; None where all are sampled
    Raises InputError where that does not suit the model.
    """

    model: VARSR
    sampling: SampleSettings = SampleSettings()
    refining: RefineSettings = RefineSettings()
    coarse: Coarse | None = None
    reduction: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        check_restores(self.model)
        if self.coarse is not None:
            self.coarse.check(self.model)
        for name in ("sampling", "refining"):
            object.__setattr__(self, name, resolved(getattr(self, name), self.defaults))

    @property
    def defaults(self) -> ModelDefaults:
        return self.model.defaults if self.coarse is None else with_coarse(self.model.defaults)

    @property
    def coarse_reduction(self) -> int:
        """See `second_reduction` in tiling/restorer.py."""
        return 0 if self.coarse is None else REDUCTION

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
    def weight_bytes(self) -> int:
        beside = 0 if self.coarse is None else weight_bytes(self.coarse.network)
        return weight_bytes(self.model) + beside

    @property
    def steps(self) -> int:
        return self.model.config.schedule.num_scales + (self.refining.strength != 0)

    @property
    def starting(self) -> Task:
        task = prefix_task(self.model)
        if self.coarse is None:
            return task
        return replace(task, parts=[*task.parts, *coarse_task(self.coarse).parts])

    def task(self, k: int) -> Task:
        schedule = self.model.config.schedule
        if k < schedule.num_scales:
            return scale_task(self.model, self.sampling, k, given=self._given)
        guided = self.sampling.guided_scales(schedule) == schedule.num_scales
        return refining_task(self.model, 2 if guided else 1, self.refining)

    @property
    def _given(self) -> int:
        """How many scales are."""
        return 0 if self.coarse is None else self.coarse.scales

    def start(
        self, lq: Tensor, seeds: Sequence[TileSeed], small: Tensor | None = None
    ) -> SampleState:
        """small: the same tiles, smaller by `coarse_reduction`, where that is not 0."""
        coarse = []
        if self.coarse is not None and small is not None:
            coarse = self.coarse.token_ids(self.model, small)
        state = start_sampling(self.model, self.model.encode_prefix(lq), self.sampling, seeds)
        state.coarse = coarse
        if self.refining.strength != 0 and lq.device != CPU:
            steps = self.refining.steps
            state.noise = ahead(lambda: refiner_noise(self.model, seeds, steps))
        return state

    def step(self, state: SampleState, k: int) -> None:
        if k < self._given:
            wanted = self.sampling.needs_logits(k, self._given)
            take_scale(self.model, state, k, self.sampling if wanted else None)
        elif k < self.model.config.schedule.num_scales:
            sample_scale(self.model, state, k, self.sampling)
        else:
            refine_state(self.model, state, self.refining)

    @property
    def decoder(self) -> VARSRDecoder:
        return VARSRDecoder(self.model)

    @property
    def wider(self) -> VARSRRestorer | None:
        model = self.model.widened()
        return None if model is None else replace(self, model=model)


class SamplingWork:
    """Scales `0 .. steps - 1`, of which the first `settled` are taken from `tokens`.

    token_ids: per scale (tiles, side * side), once tiles finished
    hidden:    (tiles, rows, S * S, D) of the last scale of all, or None
    """

    starting = None

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

    @property
    def wider(self) -> SamplingWork | None:
        model = self.model.widened()
        return None if model is None else changed(self, model=model)

    def task(self, k: int) -> Task:
        given = 0 if self.tokens is None else self.settled
        return scale_task(self.model, self.settings, k, given)

    def start(self, numbers: Sequence[int]) -> SampleState:
        prefix = brought(self.prefix[list(numbers)], self.device)
        return start_sampling(self.model, prefix, self.settings, [self.seeds[n] for n in numbers])

    def step(self, state: SampleState, numbers: Sequence[int], k: int) -> None:
        if self.tokens is None or k >= self.settled:
            sample_scale(self.model, state, k, self.settings)
            return
        ids, latents = self.tokens.token_ids[k], self.tokens.latents[k]
        part = list(numbers)
        ids, latents = brought(ids[part], self.device), brought(latents[part], self.device)
        wanted = self.settings.needs_logits(k, self.settled)
        keep_scale(self.model, state, k, ids, latents, self.settings if wanted else None)

    def finish(self, state: SampleState, numbers: Sequence[int]) -> None:
        numbers = list(numbers)
        counts = [kept.shape[1] for kept in self.token_ids]
        together = torch.cat(state.token_ids, dim=1).cpu()  # each copy from a card waits for it
        for kept, ids in zip(self.token_ids, together.split(counts, dim=1), strict=True):
            kept[numbers] = ids
        if self.steps < self.model.config.schedule.num_scales:
            return
        hidden = hidden_by_tile(self.model, state).cpu()
        if self.hidden is None:
            self.hidden = hidden.new_zeros(len(self.prefix), *hidden.shape[1:])
        self.hidden[numbers] = hidden
