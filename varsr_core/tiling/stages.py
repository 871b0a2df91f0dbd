"""What the stages of every family have in common: tiles in blocks, decoding, a check."""

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
    lq: Tensor,
    session: Session,
    encode: Callable[[Tensor, ReportFn], None],
) -> None:
    """Calls `encode` with blocks of tiles of some pictures, in order, on the device.

    tiles: of all pictures
    lq:    (B, 3, h, w), of the grid's size
    """

    def encode_block(block: slice, report: ReportFn) -> None:
        encode(grid.crop(lq, range(tiles)[block]).to(session.device), report)

    session.run(tiles, encode_block)


def decode_latents(
    decoder: TileDecoder, latents: Sequence[Tensor], canvas: Canvas, execution: Execution
) -> Tensor:
    """Latents of all tiles, (N, C, S, S) each, to pictures, (len * B, 3 or 4, H, W) in [0, 1]."""
    decoding = Decoding(decoder, [canvas.grid] * canvas.images, canvas.blended)
    session = Session(execution, decoding.units * len(latents))
    decoded = []
    for latent in latents:
        rgb = latent.new_zeros(canvas.images, 3, canvas.grid.height, canvas.grid.width)
        decoding.run(latent, range(canvas.tiles), session, rgb)
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
