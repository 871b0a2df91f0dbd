"""Decodes a canvas of any size piece by piece, with the result of decoding it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..runtime.execution import Plan, Session
from ..runtime.progress import DECODING
from ..runtime.transfer import Arriving, brought
from ..runtime.work import Calls, Task
from .consistency import Overlaps
from .grid import Canvases, TileGrid, TileIndex
from .group_norm import NormFn, NormStatistics
from .overflow import check_decoded
from .pieces import Pieces, spread

# Statistics of so many pieces of a tile's size, or of as many as make up so many pixels, stand for
# a canvas; one of that area or less is measured whole.
MEASURED_PIECES = 4
MEASURED_PIXELS = 2**18


class TileDecoder(Protocol):
    """A decoder in two parts: a coarse one for a whole canvas, a fine one for pieces of it."""

    @property
    def cells(self) -> int:
        """Side of a tile, in cells of the latent."""
        ...

    @property
    def features(self) -> int:
        """Features of the coarse part along a side, per cell."""
        ...

    @property
    def pixels(self) -> int:
        """Pixels along a side, per cell."""
        ...

    @property
    def context(self) -> int:
        """Features around a piece that the fine part must see to decode it."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Whole tiles, both parts: (N, C, S, S) -> (N, 3, tile, tile) in [0, 1]."""
        ...

    def coarse(self, latent: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, D, H * features, W * features)."""
        ...

    def fine(self, features: Tensor, norm: NormFn) -> Tensor:
        """(N, D, h, w) -> (N, 3, ..., ...) in [0, 1]."""
        ...

    def coarse_parts(self, height: int, width: int) -> Sequence[Calls]:
        """What the coarse part does with so many cells."""
        ...

    def fine_parts(self, height: int, width: int) -> Sequence[Calls]:
        """What the fine part does with so many features."""
        ...


class Decoding:
    """How the tiles of some pictures become pixels.

    Tiles that were blended are one canvas, which is decoded as such. Tiles that were not, because
    they ran apart or because some were left out, are decoded each by itself and cross-faded.
    """

    def __init__(self, decoder: TileDecoder, grids: Sequence[TileGrid], blended: bool) -> None:
        """grids: of each picture, in pixels."""
        self.decoder, self.tiles = decoder, TileIndex(grids)
        self.whole = [blended and len(grid) > 1 for grid in grids]

    def plan(self, wanted: int) -> Plan:
        """All that `run` does, if so many tiles count."""
        canvases = Counter(
            grid for grid, whole in zip(self.tiles.grids, self.whole, strict=True) if whole
        )
        for grid, count in canvases.items():
            wanted -= count * len(grid)
            cells = grid.cells()
            for task, times in _Steps(self.decoder, cells.height, cells.width).plan():
                yield task, times * count
        yield _tile_task(self.decoder), wanted

    def run(self, latents: Tensor, wanted: Sequence[int], session: Session, rgb: Canvases) -> None:
        """Decodes pictures into `rgb`, which is zero.

        latents: (tiles of all pictures, C, S, S) float32, anywhere
        wanted:  numbers of the tiles that count; all, for tiles that were blended
        rgb:     (3, grid height, grid width) of each picture
        """
        for picture, whole in enumerate(self.whole):
            if whole:
                numbers, cells = self.tiles.of(picture), self.tiles.grids[picture].cells()
                latent = composite(latents[numbers.start : numbers.stop], cells)
                decode_canvas(latent, self.decoder, session, rgb[picture])
        apart = [number for number in wanted if not self.whole[self.tiles.locate(number)[0]]]

        pixels = Arriving(partial(self.tiles.add, rgb), rgb[0].device)

        def decode_block(block: slice) -> None:
            numbers = apart[block]
            latent = torch.stack([latents[number] for number in numbers])
            pixels.come(numbers, self.decoder.decode(brought(latent, session.device)))

        session.run(len(apart), _tile_task(self.decoder), decode_block)
        pixels.finish()
        check_decoded(rgb, self.tiles)


def _tile_task(decoder: TileDecoder) -> Task:
    side = decoder.cells * decoder.features
    coarse = decoder.coarse_parts(decoder.cells, decoder.cells)
    return Task(DECODING, [*coarse, *decoder.fine_parts(side, side)])


class _Steps:
    """What is done to one canvas.

    tile:     side of a tile, in features
    measured: how many samples of that side stand for the canvas
    few:      whether it has no more features than these, and is measured whole
    coarse, sample, piece, whole: the coarse part of all; the fine one of a sample, a piece and all
    """

    def __init__(self, decoder: TileDecoder, height: int, width: int) -> None:
        """height, width: of the canvas, in cells."""
        self.decoder, self.tile = decoder, decoder.cells * decoder.features
        height_, width_ = height * decoder.features, width * decoder.features
        scale = decoder.pixels // decoder.features
        self.pieces = Pieces(height_, width_, self.tile, decoder.context, scale)
        pixels = (decoder.cells * decoder.pixels) ** 2
        self.measured = max(MEASURED_PIECES, MEASURED_PIXELS // pixels)
        self.few = height_ * width_ <= self.measured * self.tile**2
        self.coarse = Task(DECODING, decoder.coarse_parts(height, width))
        self.sample = Task(DECODING, decoder.fine_parts(self.tile, self.tile))
        self.piece = Task(DECODING, decoder.fine_parts(*self.pieces.sides))
        self.whole = Task(DECODING, decoder.fine_parts(height_, width_))

    def plan(self) -> Plan:
        if self.few:  # so it counts, even if memory is short and it has to be decoded in pieces
            return [(self.coarse, 1), (self.whole, 1)]
        return [(self.coarse, 1), (self.sample, self.measured), (self.piece, len(self.pieces))]


def composite(latents: Tensor, grid: TileGrid) -> Tensor:
    """Tiles that were blended, as one canvas: (tiles, C, S, S) -> (C, height, width).

    Laid down in the order in which they ran: at its own border a later tile shows what it took over
    from the earlier one, and goes on where that one ends. So nothing needs to be averaged.
    """
    latent = latents.new_zeros(latents.shape[1], grid.height, grid.width)
    for phase in Overlaps(grid).phases:
        for index in phase:
            latent[(..., *grid.area(index))] = latents[index]
    return latent


def decode_canvas(latent: Tensor, decoder: TileDecoder, session: Session, rgb: Tensor) -> None:
    """Decodes a canvas as if at once.

    latent: (C, H, W) float32, at least a tile
    rgb:    (3, H * pixels, W * pixels), is written to
    """
    height, width = latent.shape[1:]
    steps = _Steps(decoder, height, width)
    pieces = steps.pieces

    def coarse() -> Tensor:
        with session.doing(steps.coarse):
            return decoder.coarse(brought(latent[None], session.device))

    features = session.single(coarse)
    statistics, whole = _measure(features, steps, session)
    if whole is not None:
        rgb.copy_(whole[0])
        return

    pixels = Arriving(partial(pieces.paste, rgb), rgb.device)

    def decode_block(block: slice) -> None:
        numbers = range(len(pieces))[block]
        cut = torch.cat([pieces.cut(features, number) for number in numbers])
        pixels.come(numbers, decoder.fine(cut, statistics.norm()))

    units = session.units(steps.whole) if steps.few else None
    session.run(len(pieces), steps.piece, decode_block, units)
    pixels.finish()


def _measure(
    features: Tensor, steps: _Steps, session: Session
) -> tuple[NormStatistics, Tensor | None]:
    """Statistics of the fine part's norms, the same whatever memory there is.

    With them comes the canvas in rgb, (1, 3, ..., ...), if it had to be decoded whole for them.
    """
    decoder, count, pieces = steps.decoder, steps.measured, steps.pieces
    if steps.few:
        samples, task, times = features, steps.whole, 1
    else:
        height, width = features.shape[2:]
        grid = TileGrid(height, width, steps.tile, overlap=0)
        samples = grid.crop(features, spread(len(grid.rows), len(grid.columns), count))
        task, times = steps.sample, count
    made: list[Tensor] = []
    found: list[NormStatistics] = []

    def at_once() -> None:
        with session.doing(task, times):
            found.append(
                NormStatistics.measure(lambda norm: made.append(decoder.fine(samples, norm)))
            )

    if session.attempt(count, at_once):
        return found[0], made[0] if steps.few else None
    if steps.few:
        runs = [
            (partial(decoder.fine, pieces.cut(features, number)), partial(pieces.kept, number))
            for number in range(len(pieces))
        ]
    else:
        runs = [(partial(decoder.fine, sample[None]), _everything) for sample in samples]

    def apart() -> NormStatistics:
        units = 0 if steps.few else times * session.units(task)
        with session.doing(steps.piece, units=units):
            return NormStatistics.measure_apart(runs)

    return session.single(apart), None


def _everything(x: Tensor) -> Tensor:
    return x
