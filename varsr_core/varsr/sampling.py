"""The stages of VARSR as functions of a model and tiles (paper, sections 3.2 to 3.4).

Every function computes on the device of the tensors it is given. Nothing here knows of batches of
tiles beyond N, of progress bars or of devices: see `varsr/stages.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..errors import InputError
from ..nn.guidance import guidance_ratios
from ..nn.resample import resample
from ..nn.token_sampling import draw_tokens, guide, smooth_weights, truncated
from ..runtime.defaults import resolved
from ..runtime.transfer import brought
from ..tiling.noise import (
    TileSeed,
    derive_seed,
    draw_exponential,
    draw_normal,
    draw_uniform,
)
from ..tiling.overflow import nan_where_overflowed
from .kinds import guidance_schedule
from .model import VARSR
from .refiner import sample_residual
from .sample_state import SampleState
from .settings import RefineSettings, SampleSettings


def start_sampling(
    model: VARSR, prefix: Tensor, settings: SampleSettings, seeds: Sequence[TileSeed]
) -> SampleState:
    """State before scale 0, with an empty cache for the whole run."""
    config, tiles = model.config, prefix.shape[0]
    negative = config.transformer.num_classes - 1
    settings = resolved(settings, model.defaults)
    if not 0 <= settings.quality_class <= negative:
        raise InputError(f"quality class {settings.quality_class} is not within 0 and {negative}")
    guided = settings.guided_scales(config.schedule)
    rows = torch.full((2 * tiles if guided else tiles,), negative, device=prefix.device)
    rows[:tiles] = settings.quality_class
    side = config.schedule.final_side
    # Of the one or two classes there are: with thousands of them, it is work.
    modulation = model.transformer.modulation(rows[:: max(1, tiles)])
    return SampleState(
        prefix=prefix,
        classes=rows,
        guided_scales=guided,
        cache=model.transformer.new_cache(len(rows), prefix.device),
        seeds=seeds,
        latents=[
            torch.zeros(tiles, config.tokenizer.latent_channels, side, side, device=prefix.device)
        ],
        hidden=prefix.new_empty(len(rows), 0, prefix.shape[2]),
        modulation=modulation.repeat_interleave(tiles, dim=1),
    )


def sample_scale(model: VARSR, state: SampleState, scale: int, settings: SampleSettings) -> None:
    """Predicts one token map and adds it to the latent (paper, equation 4)."""
    tokens = model.config.schedule.sides[scale] ** 2
    state.hidden = next_hidden(model, state, scale, keep=tokens)
    logits = _moved_away(model, state, scale, settings)
    chosen = {name: getattr(settings, name) for name in ("top_k", "top_p", "temperature")}
    ids = draw_tokens(logits, **chosen, uniform=_uniform(state, scale, tokens, settings))
    state.token_ids.append(ids)
    if settings.smooth and not settings.greedy:
        weights = _smooth_weights(model, state, scale, truncated(logits, **chosen))
        residual = model.quantizer.residual_of(model.quantizer.mean(weights), scale)
    else:
        residual = model.quantizer.residual(ids, scale)
    state.latents.append(nan_where_overflowed(state.latent + residual, logits))


def keep_scale(
    model: VARSR,
    state: SampleState,
    scale: int,
    token_ids: Tensor,
    latent: Tensor,
    logits_for: SampleSettings | None = None,
) -> None:
    """Takes one token map as given: the cache fills as if it had been sampled, the head rests.

    latent:     after this scale; recorded, since tiles brought together are not the sum of ids
    logits_for: settings for which the head runs all the same, because the next scale needs it
    """
    kept = 0 if logits_for is None else model.config.schedule.sides[scale] ** 2
    state.hidden = next_hidden(model, state, scale, keep=kept)
    if logits_for is not None:
        _moved_away(model, state, scale, logits_for)
    state.token_ids.append(token_ids)
    state.latents.append(latent)


def take_scale(
    model: VARSR, state: SampleState, scale: int, logits_for: SampleSettings | None = None
) -> None:
    """Takes one token map of `state.coarse`, and adds it to the latent."""
    ids = state.coarse[scale]
    latent = state.latent + model.quantizer.residual(ids, scale)
    keep_scale(model, state, scale, ids, latent, logits_for)


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
    return model.transformer(x, state.modulation, state.cache, scale, keep=keep)


def scale_logits(model: VARSR, state: SampleState, scale: int, settings: SampleSettings) -> Tensor:
    """Guided logits of the map that was just run: (N, side * side, V) float32."""
    strength = resolved(settings, model.defaults).strength(model.config.schedule, scale)
    if strength == 0:  # scale 0 of the paper's schedule: the negative rows only fill the cache
        tiles = slice(state.tiles)
        return model.transformer.logits(state.hidden[tiles], state.classes[tiles])
    positive, negative = model.transformer.logits(state.hidden, state.classes).chunk(2)
    return guide(positive, negative, strength)


def _moved_away(model: VARSR, state: SampleState, scale: int, settings: SampleSettings) -> Tensor:
    """Guided logits, moved away from those of the scale before as `settings.ssg` says."""
    logits = scale_logits(model, state, scale, settings)
    if settings.ssg == 0:
        return logits
    coarser = state.priors.get(scale - 1)
    state.priors = {k: prior for k, prior in state.priors.items() if k == scale - 1}
    state.priors[scale] = logits
    if coarser is None:
        return logits
    sides = model.config.schedule.sides
    maps = coarser.transpose(1, 2).unflatten(2, (sides[scale - 1], -1))
    prior = resample(maps, sides[scale], "bilinear").flatten(2).transpose(1, 2)
    return guide(logits, prior, settings.ssg)


def _smooth_weights(model: VARSR, state: SampleState, scale: int, logits: Tensor) -> Tensor:
    """Of all tokens at each place, (N, side * side, V); from a draw of their own."""
    ratio = guidance_ratios(model.config.schedule.num_scales, guidance_schedule(model))[scale]
    seeds = [derive_seed(seed.tile, "smooth", scale) for seed in state.seeds]
    drawn = brought(draw_exponential(logits.shape[1:], seeds), logits.device)
    return smooth_weights(logits, ratio, drawn)


def refine_state(model: VARSR, state: SampleState, settings: RefineSettings) -> None:
    """The refiner as the step behind the last scale, on what that has left."""
    rows = hidden_by_tile(model, state)
    # Guidance is chosen for sampling; where it ended early, the refiner goes without.
    settings = settings.for_rows(rows.shape[1], intended=True)
    noise = None if state.noise is None else state.noise()
    ids = state.token_ids[-1]
    state.latents.append(refine(model, state.latent, rows, ids, state.seeds, settings, noise))


def hidden_by_tile(model: VARSR, state: SampleState) -> Tensor:
    """The last hidden state as the refiner takes it: (N, rows, S * S, D).

    In float32 or bf16: float16 may be too small for what the transformer has summed up.
    """
    kept = torch.float32 if model.dtype == torch.float16 else model.dtype
    return state.hidden.unflatten(0, (-1, state.tiles)).transpose(0, 1).to(kept)


def refine(
    model: VARSR,
    latent: Tensor,
    hidden: Tensor,
    last_ids: Tensor,
    seeds: Sequence[TileSeed],
    settings: RefineSettings,
    noise: Tensor | None = None,
) -> Tensor:
    """The latent after the last scale, (N, C, S, S), with what quantization lost.

    noise: refiner_noise() of the seeds, if it is known already
    """
    if noise is None:
        noise = refiner_noise(model, seeds, settings.steps)
    noise = brought(noise, latent.device)
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
    settings = resolved(settings, model.defaults)
    tiles, side = hidden.shape[0], noise.shape[-1]
    condition = refiner_condition(model, hidden.transpose(0, 1), last_ids).flatten(1, 2)
    noise = noise.flatten(3).permute(1, 0, 3, 2).flatten(1, 2)
    chosen = {"guidance": settings.guidance, "steps": settings.steps}
    residual = model.run_part(
        partial(sample_residual, model.refiner, **chosen),
        (condition, noise),
        model.refiner,
        condition.shape[0] * condition.shape[1],
        tuple(chosen.values()),
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
    if settings.greedy:
        return None
    seeds = [derive_seed(seed.tile, "scale", scale) for seed in state.seeds]
    return brought(draw_uniform((tokens,), seeds), state.latent.device)
