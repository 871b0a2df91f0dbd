"""The stages of VARSR on whole pictures: tiles in blocks, seeds per tile, checks before work.

Each stage takes what the one before it made. `restorer.py` runs the same functions for
`upscale()`, so that both ways give the same bits.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..canvas import Canvas, split_image
from ..errors import InputError
from ..execution import Execution, ReportFn, run_in_blocks
from ..noise import tile_seeds
from .model import VARSR
from .sample import (
    RefineSettings,
    SampleSettings,
    SampleState,
    keep_scale,
    refine_latent,
    refiner_noise,
    sample_scale,
    start_sampling,
)
from .state import Prefix, TokenPyramid

OVERLAP_DIVISOR = 4  # neighbouring tiles overlap by a quarter of a tile, as published


@torch.inference_mode()
def encode_prefix(model: VARSR, image: Tensor, scale: float, execution: Execution) -> Prefix:
    """image: (B, C, H, W) in [0, 1]; scale: output size divided by input size."""
    tiles, canvas = _split(model, image, scale)

    def run(part: slice, report: ReportFn) -> Tensor:
        tokens = model.encode_prefix(tiles[part].to(execution.device))
        report(1, "prefix", None)
        return tokens.to(tiles.device)

    tokens = torch.cat(run_in_blocks(len(tiles), 1, run, execution))
    return Prefix(tokens, canvas, model.fingerprint)


@torch.inference_mode()
def encode_tokens(model: VARSR, image: Tensor, scale: float, execution: Execution) -> TokenPyramid:
    """A picture as the tokenizer sees it: all scales, no hidden state, so it cannot be refined."""
    tiles, canvas = _split(model, image, scale)

    def run(part: slice, report: ReportFn) -> TokenPyramid:
        latent = model.encode_latent(tiles[part].to(execution.device))
        ids, latents, _ = model.quantizer.encode(latent)
        report(1, "tokens", latents[-1])
        pyramid = TokenPyramid(tuple(ids), tuple(latents), canvas, model.fingerprint)
        return pyramid.to(tiles.device)

    return TokenPyramid.concatenate(run_in_blocks(len(tiles), 1, run, execution))


@torch.inference_mode()
def sample_tokens(
    model: VARSR,
    prefix: Prefix,
    settings: SampleSettings,
    seed: int,
    execution: Execution,
    *,
    tokens: TokenPyramid | None = None,
    first_scale: int = 0,
    stop_scale: int = 0,
) -> TokenPyramid:
    """Predicts token maps from coarse to fine.

    tokens, first_scale: the first `first_scale` maps are taken from `tokens`, the rest predicted
    stop_scale:          how many maps the result has; 0 for all
    """
    stop_scale = _check_scales(model, prefix, tokens, first_scale, stop_scale)
    seeds = _seeds(seed, prefix.canvas)

    def run(part: slice, report: ReportFn) -> TokenPyramid:
        state = start_sampling(
            model, prefix.tokens[part].to(execution.device), settings, seeds[part]
        )
        for scale in range(stop_scale):
            if scale < first_scale:
                ids = tokens.token_ids[scale][part].to(execution.device)
                latent = tokens.latents[scale][part].to(execution.device)
                keep_scale(model, state, scale, ids, latent)
            else:
                sample_scale(model, state, scale, settings)
            report(scale + 1, f"scale {scale + 1} of {stop_scale}", state.latent)
        complete = stop_scale == model.config.schedule.num_scales
        pyramid = TokenPyramid(
            tuple(state.token_ids),
            tuple(state.latents[1:]),
            prefix.canvas,
            model.fingerprint,
            hidden=hidden_by_tile(model, state) if complete else None,
        )
        return pyramid.to(prefix.tokens.device)

    parts = run_in_blocks(len(prefix.tokens), stop_scale, run, execution)
    return TokenPyramid.concatenate(parts)


@torch.inference_mode()
def refine_tokens(
    model: VARSR, tokens: TokenPyramid, settings: RefineSettings, seed: int, execution: Execution
) -> TokenPyramid:
    """Adds the continuous residual; replaces the one of an earlier run."""
    _check_refinable(model, tokens, settings)
    if settings.strength == 0:
        return replace(tokens, residual=None)
    seeds = _seeds(seed, tokens.canvas)

    def run(part: slice, report: ReportFn) -> Tensor:
        noise = refiner_noise(model, seeds[part], settings.steps).to(execution.device)
        hidden = tokens.hidden[part].to(execution.device)
        ids = tokens.token_ids[-1][part].to(execution.device)
        residual = refine_latent(model, hidden, ids, noise, settings)
        report(1, "refiner", tokens.latents[-1][part].to(execution.device) + residual)
        return residual.to(tokens.hidden.device)

    residual = torch.cat(run_in_blocks(len(tokens.hidden), 1, run, execution))
    return replace(tokens, residual=residual)


@torch.inference_mode()
def decode_tokens(model: VARSR, tokens: TokenPyramid, execution: Execution) -> Tensor:
    """The picture: (B, 3, or 4 with alpha, H, W) in [0, 1]."""
    check_model(model, tokens.fingerprint, "tokens")
    return tokens.canvas.join(_decode(model, tokens.latent, execution))


@torch.inference_mode()
def decode_scales(model: VARSR, tokens: TokenPyramid, execution: Execution) -> Tensor:
    """One picture per scale, coarse to fine, the last one refined if `tokens` are.

    returns (scales * B, 3 or 4, H, W) in [0, 1], the pictures of one scale together
    """
    check_model(model, tokens.fingerprint, "tokens")
    latents = torch.cat([*tokens.latents[:-1], tokens.latent])
    decoded = _decode(model, latents, execution).chunk(tokens.num_scales)
    return torch.cat([tokens.canvas.join(tiles) for tiles in decoded])


def check_model(model: VARSR, fingerprint: str, name: str) -> None:
    """Refuses what another model made: its numbers would mean nothing to this one."""
    if fingerprint != model.fingerprint:
        raise InputError(
            f"{name} was made with another model (weights {fingerprint[:8]}, not "
            f"{model.fingerprint[:8]}); connect the same Load VARSR Model to every stage"
        )


def hidden_by_tile(model: VARSR, state: SampleState) -> Tensor:
    """The last hidden state as the refiner takes it: (N, rows, S * S, D) in the model's dtype."""
    return state.hidden.unflatten(0, (-1, state.tiles)).transpose(0, 1).to(model.dtype)


def _split(model: VARSR, image: Tensor, scale: float) -> tuple[Tensor, Canvas]:
    config = model.config
    return split_image(
        image,
        scale,
        config.tile_size,
        overlap=config.tile_size // OVERLAP_DIVISOR,
        align=config.tokenizer.downsampling,
    )


def _seeds(seed: int, canvas: Canvas) -> list[int]:
    return tile_seeds(seed, canvas.images, len(canvas.grid))


def _decode(model: VARSR, latents: Tensor, execution: Execution) -> Tensor:
    """(M, C, S, S) -> (M, 3, tile, tile) in [0, 1]."""

    def run(part: slice, report: ReportFn) -> Tensor:
        tiles = model.decode(latents[part].to(execution.device))
        report(1, "decode", None)
        return tiles.to(latents.device)

    return torch.cat(run_in_blocks(len(latents), 1, run, execution))


def _check_scales(
    model: VARSR, prefix: Prefix, tokens: TokenPyramid | None, first: int, stop: int
) -> int:
    """Refuses scales that are not there; returns how many maps the result has."""
    check_model(model, prefix.fingerprint, "prefix")
    total = model.config.schedule.num_scales
    stop = stop or total
    if not 0 < stop <= total:
        raise InputError(f"stop_scale {stop} is beyond the {total} scales of this model")
    if not 0 <= first < stop:
        raise InputError(
            f"first_scale {first} leaves nothing to sample; this run ends after {stop} of the "
            f"{total} scales, so at most {stop - 1} can be kept"
        )
    if first == 0:
        return stop
    if tokens is None:
        raise InputError(
            f"first_scale {first} keeps {first} scales of tokens, but tokens is not connected; "
            "connect VARSR Encode Image to Tokens or an earlier VARSR Next-Scale Sample"
        )
    check_model(model, tokens.fingerprint, "tokens")
    if tokens.num_scales < first:
        raise InputError(
            f"first_scale {first} keeps {first} scales, but tokens stop after {tokens.num_scales}"
        )
    if replace(tokens.canvas, alpha=None) != replace(prefix.canvas, alpha=None):
        raise InputError(
            f"tokens hold {len(tokens.latent)} tiles of {tokens.canvas.width}x"
            f"{tokens.canvas.height}, prefix {len(prefix.tokens)} of {prefix.canvas.width}x"
            f"{prefix.canvas.height}; encode both from pictures and scales of the same output size"
        )
    return stop


def _check_refinable(model: VARSR, tokens: TokenPyramid, settings: RefineSettings) -> None:
    check_model(model, tokens.fingerprint, "tokens")
    if tokens.hidden is None:
        raise InputError(
            f"tokens have {tokens.num_scales} of {model.config.schedule.num_scales} scales and no "
            "hidden state of the last one (encoded, or stopped early); the refiner needs it. Run "
            "VARSR Next-Scale Sample to the last scale first"
        )
    if settings.guidance and settings.strength and tokens.hidden.shape[1] < 2:
        raise InputError(
            f"guidance {settings.guidance:g} needs tokens that were sampled with guidance; these "
            "were sampled with 0. Run VARSR Next-Scale Sample with guidance above 0 first, or set "
            "this guidance to 0"
        )
