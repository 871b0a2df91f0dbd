"""What the stages of every family have in common: tiles in blocks, steps, decoding, a check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.execution import Execution, Session
from ..runtime.progress import FINISHING
from ..runtime.transfer import brought
from ..runtime.work import Task, on_pixels
from .canvas import Canvas
from .decode import Decoding, TileDecoder
from .plan import plan_of
from .preview import Preview, reduced
from .scheduler import TileLoop
from .tile_work import TileWork


def each_tile(
    canvas: Canvas,
    lq: Tensor,
    execution: Execution,
    task: Task,
    encode: Callable[[Tensor], None],
    reduction: int = 1,
) -> None:
    """Calls `encode` with blocks of tiles of the canvas' pictures, in order, on the device.

    lq:        (B, 3, h, w), of the size of the canvas' grid divided by `reduction`
    task:      what `encode` does with one tile
    """
    session, grid = Session(execution, [(task, canvas.tiles)]), canvas.grid.reduced(reduction)

    def encode_block(block: slice) -> None:
        encode(brought(grid.crop(lq, range(canvas.tiles)[block]), session.device))

    session.run(canvas.tiles, task, encode_block)


def run_tiles(work: TileWork[Any], canvas: Canvas, execution: Execution) -> list[Tensor]:
    """Takes all tiles of the canvas' pictures through their steps; see `latents` of TileLoop."""
    preview = None
    if execution.pictures and canvas.image is not None:
        preview = Preview([canvas] * canvas.images, canvas.image)
    finishing = Task(FINISHING)
    plan = [*plan_of(work, canvas.tiles), (finishing, 1)]
    session = Session(execution, plan, canvas.tiles)
    grids = [canvas.grid.cells()] * canvas.images
    latents = TileLoop(work, grids, canvas.mode, session, preview=preview).run()
    with session.doing(finishing, draw=preview.last if preview else None):
        return latents


def decode_latents(
    decoder: TileDecoder, latents: Sequence[Tensor], canvas: Canvas, execution: Execution
) -> Tensor:
    """Latents of all tiles, (N, C, S, S) each, to pictures, (len * B, 3 or 4, H, W) in [0, 1]."""
    decoding = Decoding(decoder, [canvas.grid] * canvas.images, canvas.blended)
    finishing = Task(FINISHING, [on_pixels(canvas.images * canvas.height * canvas.width)])
    plan = [*decoding.plan(canvas.tiles), (finishing, 1)]
    plan = [(task, times * len(latents)) for task, times in plan]
    session = Session(execution, plan, most=canvas.tiles)
    decoded: list[Tensor] = []

    def last() -> Tensor:
        return reduced(decoded[-1][-1])

    for latent in latents:
        rgb = latent.new_zeros(canvas.images, 3, canvas.grid.height, canvas.grid.width)
        decoding.run(latent, range(canvas.tiles), session, rgb)
        with session.doing(finishing, draw=last if execution.pictures else None):
            decoded.append(canvas.with_alpha(canvas.colored(canvas.crop(rgb))))
    return torch.cat(decoded)


def check_made_by(fingerprint: str, name: str, wanted: str, loader: str) -> None:
    """Refuses what another model made: its numbers would mean nothing to this one.

    fingerprint, name: of what is given; wanted: of the model; loader: the node for its files
    """
    if fingerprint != wanted:
        told = f"{fingerprint[:8]}, not {wanted[:8]}"
        if fingerprint[:] == wanted[:]:  # of two Fingerprints, the texts
            told = f"not those of this file, though both are said to be {wanted[:8]}"
        raise InputError(
            f"{name} was made with another model (weights {told}); connect the same {loader} to "
            "every stage"
        )
