"""The stages of VARSR on whole pictures: tiles in blocks, seeds per tile, checks before work.

Each stage takes what the one before it made. `restorer.py` runs the same functions for
`upscale()`, so that both ways give the same bits.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError
from ..images.output_size import OutputSize, as_output_size
from ..runtime.execution import Execution, ReportFn, Session
from ..tiling.canvas import Canvas
from ..tiling.consistency import Tiling
from ..tiling.grid import TileGrid
from ..tiling.noise import tile_seeds
from ..tiling.preview import Preview
from ..tiling.scheduler import TileLoop, TileWork
from ..tiling.stages import check_made_by, decode_latents, each_tile
from .decoding import VARSRDecoder, linear_preview
from .model import VARSR
from .results import Prefix, TokenPyramid
from .sampling import RefineSettings, SampleSettings
from .work import RefiningWork, SamplingWork


@torch.inference_mode()
def encode_prefix(
    model: VARSR,
    image: Tensor,
    size: float | OutputSize,
    execution: Execution,
    tiling: Tiling | None = None,
) -> Prefix:
    """image: (B, C, H, W) in [0, 1]; size: of the output, see OutputSize."""
    canvas = _canvas(model, image, size, tiling)
    session = Session(execution, canvas.tiles)
    tokens: list[Tensor] = []

    def work(tiles: Tensor, report: ReportFn) -> None:
        encoded = model.encode_prefix(tiles).to(image.device)
        tokens.append(encoded)
        report("prefix")

    each_tile(canvas.tiles, canvas.grid, canvas.enlarge(image), session, work)
    return Prefix(torch.cat(tokens), canvas, model.fingerprint)


@torch.inference_mode()
def encode_tokens(
    model: VARSR,
    image: Tensor,
    size: float | OutputSize,
    execution: Execution,
    overlap: float = Tiling.overlap,
) -> TokenPyramid:
    """A picture as the tokenizer sees it: all scales, no hidden state, so it cannot be refined."""
    canvas = _canvas(model, image, size, Tiling("independent", overlap))
    session = Session(execution, canvas.tiles)
    parts: list[TokenPyramid] = []

    def work(tiles: Tensor, report: ReportFn) -> None:
        ids, latents, _ = model.quantizer.encode(model.encode_latent(tiles))
        part = TokenPyramid(tuple(ids), tuple(latents), canvas, model.fingerprint)
        parts.append(part.to(image.device))
        report("tokens")

    each_tile(canvas.tiles, canvas.grid, canvas.enlarge(image), session, work)
    return TokenPyramid.concatenate(parts)


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
    """Predicts token maps from coarse to fine; tiles agree as the prefix' canvas asks.

    tokens, first_scale: the first `first_scale` maps are taken from `tokens`, the rest predicted
    stop_scale:          how many maps the result has; 0 for all
    """
    stop_scale = _check_scales(model, prefix, tokens, first_scale, stop_scale)
    canvas = prefix.canvas
    session = Session(execution, canvas.tiles * stop_scale, canvas.tiles)
    seeds = tile_seeds(seed, canvas.images, canvas.grid.cells().positions)
    work = SamplingWork(
        model, prefix.tokens, settings, seeds, session.device, tokens, first_scale, stop_scale
    )
    latents = _loop(model, work, canvas, session).run()
    return TokenPyramid(
        tuple(work.token_ids), tuple(latents), canvas, model.fingerprint, hidden=work.hidden
    ).to(prefix.tokens.device)


@torch.inference_mode()
def refine_tokens(
    model: VARSR, tokens: TokenPyramid, settings: RefineSettings, seed: int, execution: Execution
) -> TokenPyramid:
    """Adds the continuous residual; replaces the one of an earlier run."""
    _check_refinable(model, tokens, settings)
    if settings.strength == 0:
        return replace(tokens, refined=None)
    canvas = tokens.canvas
    session = Session(execution, canvas.tiles)
    seeds = tile_seeds(seed, canvas.images, canvas.grid.cells().positions)
    work = RefiningWork(model, tokens, settings, seeds, session.device)
    latents = _loop(model, work, canvas, session).run()
    return replace(tokens, refined=latents[-1].to(tokens.hidden.device))


@torch.inference_mode()
def decode_tokens(model: VARSR, tokens: TokenPyramid, execution: Execution) -> Tensor:
    """The picture: (B, 3, or 4 with alpha, H, W) in [0, 1]."""
    check_model(model, tokens.fingerprint, "tokens")
    return decode_latents(VARSRDecoder(model), [tokens.latent], tokens.canvas, execution)


@torch.inference_mode()
def decode_scales(model: VARSR, tokens: TokenPyramid, execution: Execution) -> Tensor:
    """One picture per scale, coarse to fine, the last one refined if `tokens` are.

    returns (scales * B, 3 or 4, H, W) in [0, 1], the pictures of one scale together
    """
    check_model(model, tokens.fingerprint, "tokens")
    latents = [*tokens.latents[:-1], tokens.latent]
    return decode_latents(VARSRDecoder(model), latents, tokens.canvas, execution)


def check_model(model: VARSR, fingerprint: str, name: str) -> None:
    """Refuses what another model made: its numbers would mean nothing to this one."""
    check_made_by(fingerprint, name, model.fingerprint, "Load VARSR Model")


def _canvas(model: VARSR, image: Tensor, size: float | OutputSize, tiling: Tiling | None) -> Canvas:
    config = model.config
    return Canvas.of(
        image,
        as_output_size(size),
        config.tile_size,
        config.tokenizer.downsampling,
        tiling or Tiling(),
    )


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
    if _geometry(tokens.canvas) != _geometry(prefix.canvas):
        raise InputError(
            f"tokens hold {len(tokens.latent)} tiles of {tokens.canvas.width}x"
            f"{tokens.canvas.height}, prefix {len(prefix.tokens)} of {prefix.canvas.width}x"
            f"{prefix.canvas.height}; encode both with the same output size and overlap"
        )
    return stop


def _loop(model: VARSR, work: TileWork, canvas: Canvas, session: Session) -> TileLoop:
    canvases = [canvas] * canvas.images
    preview = Preview(canvases, linear_preview(model)) if session.execution.pictures else None
    grids = [canvas.grid.cells()] * canvas.images
    return TileLoop(work, grids, canvas.mode, session, preview=preview)


def _geometry(canvas: Canvas) -> tuple[int, int, int, TileGrid]:
    return canvas.images, canvas.height, canvas.width, canvas.grid


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
            "were sampled without, at the last scale at least. Sample with guidance first, or set "
            "this guidance to 0"
        )
