"""The stages of VARSR on whole pictures: tiles in blocks, seeds per tile, checks before work.

Each stage takes what the one before it made. `restorer.py` runs the same functions for
`upscale()`, so that both ways give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..images.output_size import OutputSize, as_output_size
from ..runtime.execution import Execution, ReportFn, Session
from ..tiling.canvas import Canvas
from ..tiling.consistency import Tiling
from ..tiling.grid import TileGrid, TileIndex
from ..tiling.noise import TileSeed, tile_seeds
from ..tiling.overflow import check_latents
from ..tiling.preview import Preview
from ..tiling.scheduler import TileLoop, TileWork
from ..tiling.stages import check_made_by, decode_latents, each_tile
from .decoding import VARSRDecoder, linear_preview
from .model import VARSR
from .restorer import SamplingWork
from .results import Prefix, TokenPyramid
from .sampling import RefineSettings, SampleSettings, refine


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
    index = TileIndex([canvas.grid] * canvas.images)

    def work(tiles: Tensor, report: ReportFn) -> None:
        latent, done = model.encode_latent(tiles), sum(len(part.latent) for part in parts)
        numbers = range(done, done + len(tiles))
        check_latents(latent, numbers, index, "tokens")
        ids, latents, _ = model.quantizer.encode(latent)
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
    model: VARSR,
    tokens: TokenPyramid,
    settings: RefineSettings,
    seed: int,
    execution: Execution,
    *,
    unguided_scales: int = 0,
) -> TokenPyramid:
    """Adds the continuous residual; replaces the one of an earlier run.

    unguided_scales: how many last scales the model of this run samples without guidance; if any,
                     tokens without negative rows are refined without guidance
    """
    hidden = _hidden(model, tokens)
    settings = settings.for_rows(hidden.shape[1], intended=unguided_scales > 0)
    if settings.strength == 0:
        return replace(tokens, refined=None)
    canvas = tokens.canvas
    session = Session(execution, canvas.tiles)
    seeds = tile_seeds(seed, canvas.images, canvas.grid.cells().positions)
    work = RefiningWork(model, tokens, hidden, settings, seeds, session.device)
    latents = _loop(model, work, canvas, session).run()
    return replace(tokens, refined=latents[-1].to(hidden.device))


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


def _hidden(model: VARSR, tokens: TokenPyramid) -> Tensor:
    """What the refiner needs beside tokens; InputError where it is not there."""
    check_model(model, tokens.fingerprint, "tokens")
    if tokens.hidden is None:
        raise InputError(
            f"tokens have {tokens.num_scales} of {model.config.schedule.num_scales} scales and no "
            "hidden state of the last one (encoded, or stopped early); the refiner needs it. Run "
            "VARSR Next-Scale Sample to the last scale first"
        )
    return tokens.hidden


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
        hidden: Tensor,
        settings: RefineSettings,
        seeds: Sequence[TileSeed],
        device: torch.device,
    ) -> None:
        self.model, self.tokens, self.hidden, self.settings = model, tokens, hidden, settings
        self.seeds, self.device = seeds, device

    def describe(self, k: int) -> str:
        return "refiner"

    def start(self, numbers: Sequence[int]) -> RefiningState:
        return RefiningState(self.tokens.latents[-1][list(numbers)].to(self.device))

    def step(self, state: RefiningState, numbers: Sequence[int], k: int) -> None:
        part = list(numbers)
        seeds = [self.seeds[number] for number in part]
        hidden = self.hidden[part].to(self.device)
        ids = self.tokens.token_ids[-1][part].to(self.device)
        latent = self.tokens.latents[-1][part].to(self.device)
        state.latent = refine(self.model, latent, hidden, ids, seeds, self.settings)

    def finish(self, state: RefiningState, numbers: Sequence[int]) -> None:
        """Nothing but the latents is wanted."""
