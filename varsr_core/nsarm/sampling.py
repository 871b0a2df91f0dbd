"""The stages of NSARM as functions of a model and tiles.

Every function computes on the device of the tensors it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError
from ..nn.kv_cache import KVCache
from ..nn.resample import resample
from ..runtime.defaults import AUTO, resolved
from ..runtime.transfer import brought
from ..tiling.noise import TileSeed, derive_seed, draw_uniform
from ..tiling.overflow import nan_where_overflowed
from ..tiling.tile_work import KeepsLatents
from .bits import codes_of_bits, draw_bits, patch, unpatch
from .config import FORCED, PATCH
from .model import NSARM
from .text import TextState

Downsampling = Literal["area", "trilinear"]
DOWNSAMPLINGS: tuple[str, ...] = get_args(Downsampling)


@dataclass(frozen=True)
class SampleSettings:
    """The user's choices for bitwise next-scale sampling; defaults are the published ones.

    temperature:  of the draws; 0 takes the likelier value of every bit
    top_p:        bits more certain than this are not drawn
    guidance:     1 leaves the text's logits as they are; other values also run without text; below
                  0 it is so many times the model's own
    downsampling: how the picture so far is shrunk to the next map. The released code samples with
                  `area`; parts of its training helpers use `trilinear`
    """

    temperature: float = 0.5
    top_p: float = 0.97
    guidance: float = AUTO
    downsampling: Downsampling = "area"

    def __post_init__(self) -> None:
        for name, valid, expected in (
            ("temperature", 0 <= self.temperature < math.inf, "0 or more"),
            ("top_p", 0.5 <= self.top_p <= 1, "0.5 to 1"),
            (
                "guidance",
                self.guidance < math.inf,
                "0 or more, or below 0 for so many times the model's own",
            ),
            ("downsampling", self.downsampling in DOWNSAMPLINGS, " or ".join(DOWNSAMPLINGS)),
        ):
            if not valid:
                raise InputError(f"{name} is {getattr(self, name)!r}; {expected} is expected")


@dataclass
class SampleState(KeepsLatents):
    """Everything between two steps: the forced scales together, then one scale after the other.

    forced:  codes of the first scales, from the map network
    texts:   what the prompt contributes, and with guidance what no prompt does
    caches:  one for each of the texts
    seeds:   one per tile
    latents: (N, C, S, S) float32 after each step, behind the empty one that starts
    bits:    of each sampled scale so far, (N, L, bits) bool
    """

    forced: list[Tensor]
    texts: list[TextState]
    caches: list[KVCache]
    seeds: Sequence[TileSeed]
    latents: list[Tensor]
    bits: list[Tensor] = field(default_factory=list)

    @property
    def tiles(self) -> int:
        return self.latent.shape[0]

    @property
    def nbytes(self) -> int:
        held = [*self.forced, *self.latents, *self.bits]
        return sum(cache.nbytes for cache in self.caches) + sum(tensor.nbytes for tensor in held)

    def rewind(self, k: int) -> None:
        """Forgets whatever step k has left behind before it failed."""
        sampled = max(0, k - 1)
        seen = sum(codes.shape[-1] ** 2 for codes in self.forced) // PATCH**2 if k else 0
        seen += sum(bits.shape[1] for bits in self.bits[:sampled])
        for cache in self.caches:
            cache.rewind(seen)
        del self.latents[k + 1 :], self.bits[sampled:]

    def select(self, tiles: slice) -> SampleState:
        """A state of some of the tiles, which shares no memory with this one."""
        numbers = torch.arange(self.tiles, device=self.latent.device)[tiles]
        return SampleState(
            forced=[codes[numbers] for codes in self.forced],
            texts=self.texts,
            caches=[cache.select(numbers) for cache in self.caches],
            seeds=self.seeds[tiles],
            latents=[latent[numbers] for latent in self.latents],
            bits=[bits[numbers] for bits in self.bits],
        )

    def to(self, device: torch.device) -> SampleState:
        """The same state elsewhere; the texts, of which there is one for all tiles, stay."""
        return SampleState(
            forced=[brought(codes, device) for codes in self.forced],
            texts=self.texts,
            caches=[cache.to(device) for cache in self.caches],
            seeds=self.seeds,
            latents=[brought(latent, device) for latent in self.latents],
            bits=[brought(bits, device) for bits in self.bits],
        )


def start_sampling(
    model: NSARM, forced: list[Tensor], texts: Sequence[TextState], seeds: Sequence[TileSeed]
) -> SampleState:
    """State before the forced scales, with empty caches for the whole run."""
    config, device = model.config, forced[0].device
    tiles, side = forced[0].shape[0], config.final_cells
    return SampleState(
        forced=forced,
        texts=list(texts),
        caches=[model.transformer.new_cache(tiles, device) for _ in texts],
        seeds=seeds,
        latents=[torch.zeros(tiles, config.vae.latent_channels, side, side, device=device)],
    )


def force_scales(model: NSARM, state: SampleState, settings: SampleSettings) -> None:
    """The scales that the map network gives, in one pass that only fills the caches."""
    words: list[Tensor | None] = [None]
    latent = state.latent
    for scale, codes in enumerate(state.forced, start=1):
        latent = latent + enlarged(model, codes)
        if scale < FORCED:
            words.append(next_words(model, latent, scale, settings))
    for text, cache in zip(state.texts, state.caches, strict=True):
        parts = [
            model.transformer.embed(part, text, scale, state.tiles)
            for scale, part in enumerate(words)
        ]
        model.transformer(torch.cat(parts, dim=1), text, cache, range(FORCED))
    state.latents.append(latent)


def sample_scale(model: NSARM, state: SampleState, scale: int, settings: SampleSettings) -> None:
    """Predicts the bits of one map and adds their codes to the latent."""
    words = next_words(model, state.latent, scale, settings)
    logits = [
        model.transformer.logits(
            model.transformer(
                model.transformer.embed(words, text, scale, state.tiles), text, cache, [scale]
            ),
            text,
        )
        for text, cache in zip(state.texts, state.caches, strict=True)
    ]
    guided = logits[0]
    if len(logits) > 1:
        guidance = resolved(settings, model.defaults).guidance
        guided = guidance * logits[0] + (1 - guidance) * logits[1]
    bits = draw_bits(
        guided,
        temperature=settings.temperature,
        top_p=settings.top_p,
        uniform=_uniform(state, scale, guided.shape[1:3], settings),
    )
    state.bits.append(bits)
    codes = codes_of_bits(unpatch(bits.float(), model.config.schedule.sides[scale]) > 0)
    latent = state.latent + enlarged(model, codes)
    state.latents.append(nan_where_overflowed(latent, guided))


def next_words(model: NSARM, latent: Tensor, scale: int, settings: SampleSettings) -> Tensor:
    """The picture so far as the input of a scale: (N, side * side, bits)."""
    side = PATCH * model.config.schedule.sides[scale]
    if side == latent.shape[-1]:
        return patch(latent)
    mode = "area" if settings.downsampling == "area" else "bilinear"
    return patch(resample(latent, side, mode))


def enlarged(model: NSARM, codes: Tensor) -> Tensor:
    """Codes (N, C, h, h) at the size of the latent."""
    side = model.config.final_cells
    return resample(codes, side, "bilinear")


def _uniform(
    state: SampleState, scale: int, shape: Sequence[int], settings: SampleSettings
) -> Tensor | None:
    """Draws of one scale. Seeded per scale, so that a resumed run goes on as an unbroken one."""
    if settings.temperature == 0:
        return None
    seeds = [derive_seed(seed.tile, "scale", scale) for seed in state.seeds]
    return brought(draw_uniform(tuple(shape), seeds), state.latent.device)
