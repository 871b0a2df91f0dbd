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
from ..runtime.defaults import resolved
from ..runtime.execution import Execution
from ..runtime.precision import without_tf32
from ..runtime.transfer import brought
from ..runtime.work import Task
from ..tiling.canvas import Canvas
from ..tiling.consistency import Tiling
from ..tiling.grid import TileGrid, TileIndex
from ..tiling.noise import TileSeed, tile_seeds
from ..tiling.overflow import again, check_latents, unsound
from ..tiling.stages import decode_latents, each_tile, run_tiles
from ..tiling.tile_work import changed
from .decoding import VARSRDecoder
from .kinds import check_restores, refiner_guidance, seeds_of
from .model import VARSR
from .restorer import SamplingWork
from .results import Prefix, TokenPyramid
from .resuming import check_kept, check_model, check_scales
from .sampling import RefineSettings, SampleSettings, refine
from .work import latent_task, prefix_task, refining_task


@torch.inference_mode()
@without_tf32
def encode_prefix(
    model: VARSR,
    image: Tensor,
    size: float | OutputSize,
    execution: Execution,
    tiling: Tiling | None = None,
) -> Prefix:
    """image: (B, C, H, W) in [0, 1]; size: of the output, see OutputSize."""
    check_restores(model)
    canvas = _canvas(model, image, size, tiling)
    tokens: list[Tensor] = []
    wider = model.widened()

    def work(tiles: Tensor) -> None:
        made = model.encode_prefix(tiles).to(image.device)
        if wider is not None:
            for tile in unsound([made]):
                with again():
                    made = made.float()  # which holds what the others are and this one becomes
                    made[tile] = wider.encode_prefix(tiles[tile : tile + 1])[0]
        tokens.append(made)

    each_tile(canvas, canvas.enlarge(image), execution, prefix_task(model), work)
    return Prefix(torch.cat(tokens), canvas, model.fingerprint)


@torch.inference_mode()
@without_tf32
def encode_tokens(
    model: VARSR,
    image: Tensor,
    size: float | OutputSize,
    execution: Execution,
    overlap: float = Tiling.overlap,
) -> TokenPyramid:
    """A picture as the tokenizer sees it: all scales, no hidden state, so it cannot be refined."""
    canvas = _canvas(model, image, size, Tiling("independent", overlap))
    parts: list[TokenPyramid] = []
    index, task = TileIndex([canvas.grid] * canvas.images), latent_task(model)

    def work(tiles: Tensor) -> None:
        latent, done = model.encode_latent(tiles), sum(len(part.latent) for part in parts)
        numbers = range(done, done + len(tiles))
        check_latents(latent, numbers, index, str(task.stage))
        ids, latents, _ = model.quantizer.encode(latent)
        part = TokenPyramid(tuple(ids), tuple(latents), canvas, model.fingerprint)
        parts.append(part.to(image.device))

    each_tile(canvas, canvas.enlarge(image), execution, task, work)
    return TokenPyramid.concatenate(parts)


@torch.inference_mode()
@without_tf32
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
    settings = resolved(settings, model.defaults)
    stop_scale = _check_scales(model, prefix, tokens, first_scale, stop_scale)
    canvas = prefix.canvas
    seeds = tile_seeds(seed, canvas.images, canvas.grid.cells().positions)
    work = SamplingWork(
        model, prefix.tokens, settings, seeds, execution.device, tokens, first_scale, stop_scale
    )
    latents = run_tiles(work, canvas, execution)
    return TokenPyramid(
        tuple(work.token_ids), tuple(latents), canvas, model.fingerprint, hidden=work.hidden
    ).to(prefix.tokens.device)


@torch.inference_mode()
@without_tf32
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
    settings = resolved(settings, model.defaults)
    settings = replace(settings, guidance=refiner_guidance(model, settings.guidance))
    settings = settings.for_rows(hidden.shape[1], intended=unguided_scales > 0)
    if settings.strength == 0:
        return replace(tokens, refined=None)
    canvas = tokens.canvas
    seeds = seeds_of(model, seed, canvas.images, canvas.grid.cells().positions)
    work = RefiningWork(model, tokens, hidden, settings, seeds, execution.device)
    latents = run_tiles(work, canvas, execution)
    return replace(tokens, refined=latents[-1].to(hidden.device))


@torch.inference_mode()
@without_tf32
def decode_tokens(model: VARSR, tokens: TokenPyramid, execution: Execution) -> Tensor:
    """The picture: (B, 3, or 4 with alpha, H, W) in [0, 1]."""
    check_model(model, tokens.fingerprint, "tokens")
    return decode_latents(VARSRDecoder(model), [tokens.latent], tokens.canvas, execution)


@torch.inference_mode()
@without_tf32
def decode_scales(model: VARSR, tokens: TokenPyramid, execution: Execution) -> Tensor:
    """One picture per scale, coarse to fine, the last one refined if `tokens` are.

    returns (scales * B, 3 or 4, H, W) in [0, 1], the pictures of one scale together
    """
    check_model(model, tokens.fingerprint, "tokens")
    latents = [*tokens.latents[:-1], tokens.latent]
    return decode_latents(VARSRDecoder(model), latents, tokens.canvas, execution)


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
    check_restores(model)
    check_model(model, prefix.fingerprint, "prefix")
    stop = check_scales(model, first, stop)
    if first == 0:
        return stop
    tokens = check_kept(model, tokens, first, "VARSR Next-Scale Sample")
    if _geometry(tokens.canvas) != _geometry(prefix.canvas):
        raise InputError(
            f"tokens hold {len(tokens.latent)} tiles of {tokens.canvas.width}x"
            f"{tokens.canvas.height}, prefix {len(prefix.tokens)} of {prefix.canvas.width}x"
            f"{prefix.canvas.height}; encode both with the same output size and overlap"
        )
    return stop


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
    starting = None

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

    @property
    def wider(self) -> RefiningWork | None:
        model = self.model.widened()
        return None if model is None else changed(self, model=model)

    def task(self, k: int) -> Task:
        return refining_task(self.model, self.hidden.shape[1], self.settings)

    def start(self, numbers: Sequence[int]) -> RefiningState:
        return RefiningState(brought(self.tokens.latents[-1][list(numbers)], self.device))

    def step(self, state: RefiningState, numbers: Sequence[int], k: int) -> None:
        part = list(numbers)
        seeds = [self.seeds[number] for number in part]
        hidden = brought(self.hidden[part], self.device)
        ids = brought(self.tokens.token_ids[-1][part], self.device)
        latent = brought(self.tokens.latents[-1][part], self.device)
        state.latent = refine(self.model, latent, hidden, ids, seeds, self.settings)

    def finish(self, state: RefiningState, numbers: Sequence[int]) -> None:
        """Nothing but the latents is wanted."""
