"""What the stages of every family do with tiles: work in blocks, checks, decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.execution import Execution, ReportFn, Session
from .canvas import Canvas
from .decode import Decoding, TileDecoder
from .grid import TileGrid


def each_tile(
    tiles: int,
    grid: TileGrid,
    pictures: Tensor,
    session: Session,
    work: Callable[[Tensor, ReportFn], None],
) -> None:
    """Does `work` on blocks of tiles of some pictures, in order, on the device.

    tiles:    of all pictures
    pictures: (B, 3, h, w), of the grid's size
    """

    def block(part: slice, report: ReportFn) -> None:
        work(grid.crop(pictures, range(tiles)[part]).to(session.device), report)

    session.run(tiles, block)


def decode_latents(
    decoder: TileDecoder, latents: Sequence[Tensor], canvas: Canvas, execution: Execution
) -> Tensor:
    """Latents of all tiles, (N, C, S, S) each, to pictures, (len * B, 3 or 4, H, W) in [0, 1]."""
    decoding = Decoding(decoder, [canvas.grid] * canvas.images, canvas.agreed)
    session = Session(execution, decoding.pieces * len(latents))
    pictures = []
    for latent in latents:
        rgb = latent.new_zeros(canvas.images, 3, canvas.grid.height, canvas.grid.width)
        decoding.run(latent, range(canvas.tiles), session, rgb)
        pictures.append(canvas.with_alpha(canvas.crop(rgb)))
    return torch.cat(pictures)


def check_made_by(fingerprint: str, name: str, wanted: str, loader: str) -> None:
    """Refuses what another model made: its numbers would mean nothing to this one.

    fingerprint, name: of what is given; wanted: of the model; loader: the node for its files
    """
    if fingerprint != wanted:
        raise InputError(
            f"{name} was made with another model (weights {fingerprint[:8]}, not {wanted[:8]}); "
            f"connect the same {loader} to every stage"
        )
