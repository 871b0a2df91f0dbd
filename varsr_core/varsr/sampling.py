"""The stages of VARSR as functions of a model and tiles (paper, sections 3.2 to 3.4).

Every function computes on the device of the tensors it is given. Nothing here knows of batches of
tiles beyond N, of progress bars or of devices: see `varsr/stages.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..nn.kv_cache import KVCache
from ..nn.token_sampling import draw_tokens, guide
from ..tiling.noise import TileSeed, derive_seed, draw_normal, draw_uniform
from ..tiling.overflow import nan_where_overflowed
from .model import VARSR
from .refiner import sample_residual
from .settings import RefineSettings, SampleSettings


@dataclass
class SampleState:
    """Everything between two scales.

    prefix:    (N, S * S, D)
    classes:   (rows,) quality class of each row: N positive, then, while guided, N negative
    guided_scales: how many first scales run with negative rows; then they are dropped
    seeds:     one per tile
    latents:   (N, C, S, S) float32 after each step, behind the empty one that starts
    hidden:    (rows, side * side, D) of the scale before, at the last scale the refiner's input
    token_ids: of each scale so far
    """

    prefix: Tensor
    classes: Tensor
    guided_scales: int
    cache: KVCache
    seeds: Sequence[TileSeed]
    latents: list[Tensor]
    hidden: Tensor
    token_ids: list[Tensor] = field(default_factory=list)

    @property
    def latent(self) -> Tensor:
        """The picture so far. May be replaced between scales, e.g. to bring tiles together."""
        return self.latents[-1]

    @latent.setter
    def latent(self, latent: Tensor) -> None:
        self.latents[-1] = latent

    @property
    def tiles(self) -> int:
        return self.prefix.shape[0]

    @property
    def guided(self) -> bool:
        return len(self.classes) > self.tiles

    @property
    def nbytes(self) -> int:
        held = [self.prefix, *self.latents, *self.token_ids, self.hidden]
        return self.cache.nbytes + sum(tensor.nbytes for tensor in held)

    def rewind(self, k: int) -> None:
        """Forgets whatever step k, a scale or the refiner, has left behind before it failed."""
        seen = sum(ids.shape[1] for ids in self.token_ids[:k])
        self.cache.rewind(self.prefix.shape[1] + seen if k else 0)
        del self.latents[k + 1 :], self.token_ids[k:]

    def drop_negative(self) -> None:
        """Goes on with the positive rows alone. There is no way back, and none is needed: a step
        that is done again after a failure does not need them either."""
        self.classes, self.cache = self.classes[: self.tiles], self.cache.first(self.tiles)

    def select(self, tiles: slice) -> SampleState:
        """A state of some of the tiles, which shares no memory with this one."""
        numbers = torch.arange(self.tiles, device=self.prefix.device)[tiles]
        rows = torch.cat((numbers, numbers + self.tiles)) if self.guided else numbers
        return replace(
            self,
            prefix=self.prefix[numbers],
            classes=self.classes[rows],
            cache=self.cache.select(rows),
            seeds=self.seeds[tiles],
            latents=[latent[numbers] for latent in self.latents],
            token_ids=[ids[numbers] for ids in self.token_ids],
            hidden=self.hidden[rows],
        )

    def to(self, device: torch.device) -> SampleState:
        return replace(
            self,
            prefix=self.prefix.to(device),
            classes=self.classes.to(device),
            cache=self.cache.to(device),
            latents=[latent.to(device) for latent in self.latents],
            token_ids=[ids.to(device) for ids in self.token_ids],
            hidden=self.hidden.to(device),
        )


def start_sampling(
    model: VARSR, prefix: Tensor, settings: SampleSettings, seeds: Sequence[TileSeed]
) -> SampleState:
    """State before scale 0, with an empty cache for the whole run."""
    config, tiles = model.config, prefix.shape[0]
    negative = config.transformer.num_classes - 1
    if not 0 <= settings.quality_class <= negative:
        raise InputError(f"quality class {settings.quality_class} is not within 0 and {negative}")
    guided = settings.guided_scales(config.schedule)
    classes = [settings.quality_class] * tiles + [negative] * (tiles if guided else 0)
    side = config.schedule.final_side
    return SampleState(
        prefix=prefix,
        classes=torch.tensor(classes, device=prefix.device),
        guided_scales=guided,
        cache=model.transformer.new_cache(len(classes), prefix.device),
        seeds=seeds,
        latents=[
            torch.zeros(tiles, config.tokenizer.latent_channels, side, side, device=prefix.device)
        ],
        hidden=prefix.new_empty(len(classes), 0, prefix.shape[2]),
    )


def sample_scale(model: VARSR, state: SampleState, scale: int, settings: SampleSettings) -> None:
    """Predicts one token map and adds it to the latent (paper, equation 4)."""
    tokens = model.config.schedule.sides[scale] ** 2
    state.hidden = next_hidden(model, state, scale, keep=tokens)
    logits = scale_logits(model, state, scale, settings)
    ids = draw_tokens(
        logits,
        top_k=settings.top_k,
        top_p=settings.top_p,
        temperature=settings.temperature,
        uniform=_uniform(state, scale, tokens, settings),
    )
    state.token_ids.append(ids)
    latent = state.latent + model.quantizer.residual(ids, scale)
    state.latents.append(nan_where_overflowed(latent, logits))


def keep_scale(
    model: VARSR, state: SampleState, scale: int, token_ids: Tensor, latent: Tensor
) -> None:
    """Takes one token map as given: the cache fills as if it had been sampled, the head rests.

    latent: after this scale; recorded, since tiles brought together are no longer the sum of ids
    """
    state.hidden = next_hidden(model, state, scale, keep=0)
    state.token_ids.append(token_ids)
    state.latents.append(latent)


def next_hidden(model: VARSR, state: SampleState, scale: int, *, keep: int) -> Tensor:
    """Runs one scale on the latent so far: (rows, keep, D) float32, before the head."""
    if state.guided and scale >= state.guided_scales:
        state.drop_negative()
    rows = 2 if state.guided else 1
    if scale == 0:
        x = model.transformer.embed_prefix(state.prefix.repeat(rows, 1, 1), state.classes)
    else:
        words = model.embed_words(model.quantizer.downsample(state.latent, scale))
        x = model.transformer.embed_map(words, scale).repeat(rows, 1, 1)
    return model.transformer(x, state.classes, state.cache, scale, keep=keep)


def scale_logits(model: VARSR, state: SampleState, scale: int, settings: SampleSettings) -> Tensor:
    """Guided logits of the map that was just run: (N, side * side, V) float32."""
    strength = settings.strength(model.config.schedule, scale)
    if strength == 0:  # scale 0 of the paper's schedule: the negative rows only fill the cache
        tiles = slice(state.tiles)
        return model.transformer.logits(state.hidden[tiles], state.classes[tiles])
    positive, negative = model.transformer.logits(state.hidden, state.classes).chunk(2)
    return guide(positive, negative, strength)


def hidden_by_tile(model: VARSR, state: SampleState) -> Tensor:
    """The last hidden state as the refiner takes it: (N, rows, S * S, D) in the model's dtype."""
    return state.hidden.unflatten(0, (-1, state.tiles)).transpose(0, 1).to(model.dtype)


def refine(
    model: VARSR,
    latent: Tensor,
    hidden: Tensor,
    last_ids: Tensor,
    seeds: Sequence[TileSeed],
    settings: RefineSettings,
) -> Tensor:
    """The latent after the last scale, (N, C, S, S), with what quantization lost."""
    noise = refiner_noise(model, seeds, settings.steps).to(latent.device)
    return latent + refine_latent(model, hidden, last_ids, noise, settings)


def refine_latent(
    model: VARSR, hidden: Tensor, last_ids: Tensor, noise: Tensor, settings: RefineSettings
) -> Tensor:
    """The continuous residual that quantization lost (paper, section 3.4).

    hidden:   (N, rows, S * S, D) of the last scale; 2 rows where settings ask for guidance
    last_ids: (N, S * S) of the last scale
    noise:    (N, steps + 1, C, S, S) standard normal
    returns   (N, C, S, S) float32
    """
    tiles, side = hidden.shape[0], noise.shape[-1]
    condition = refiner_condition(model, hidden.transpose(0, 1), last_ids)
    residual = sample_residual(
        model.refiner,
        condition.flatten(1, 2),
        noise.flatten(3).permute(1, 0, 3, 2).flatten(1, 2),
        guidance=settings.guidance,
        steps=settings.steps,
    )
    residual = residual.unflatten(0, (tiles, -1)).transpose(1, 2)
    return settings.strength * residual.unflatten(2, (side, side))


def refiner_condition(model: VARSR, hidden: Tensor, last_ids: Tensor) -> Tensor:
    """hidden (rows, N, S * S, D) and the words the last scale chose, normed: the same shape."""
    words = model.embed_words(model.quantizer.codebook(last_ids).float())
    return model.refiner.condition_norm(hidden.float() + words.float())


def refiner_noise(model: VARSR, seeds: Sequence[TileSeed], steps: int) -> Tensor:
    """Noise of one refiner run, equal where tiles overlap.

    returns (N, steps + 1, C, S, S) float32 on the CPU
    """
    side, channels = model.config.schedule.final_side, model.config.tokenizer.latent_channels
    noise = draw_normal((steps + 1) * channels, side, seeds, "refiner")
    return noise.unflatten(1, (steps + 1, channels))


def _uniform(
    state: SampleState, scale: int, tokens: int, settings: SampleSettings
) -> Tensor | None:
    """Draws of one scale. Seeded per scale, so that a resumed run goes on as an unbroken one."""
    if settings.top_k == 1 or settings.temperature == 0:
        return None
    seeds = [derive_seed(seed.tile, "scale", scale) for seed in state.seeds]
    return draw_uniform((tokens,), seeds).to(state.latent.device)
