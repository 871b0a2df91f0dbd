"""Decodes a canvas of any size piece by piece, with the result of decoding it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..runtime.execution import ReportFn, Session
from .consistency import Overlaps
from .grid import Canvases, TileGrid, TileIndex
from .group_norm import NormFn, NormStatistics
from .overflow import check_decoded

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


class Decoding:
    """How the tiles of some pictures become pixels.

    Tiles that were blended are one canvas, which is decoded as such. Tiles that were not, because
    they ran apart or because some were left out, are decoded each by itself and cross-faded.

    units: of work, for progress
    """

    def __init__(self, decoder: TileDecoder, grids: Sequence[TileGrid], blended: bool) -> None:
        """grids: of each picture, in pixels."""
        self.decoder, self.tiles = decoder, TileIndex(grids)
        self.whole = [blended and len(grid) > 1 for grid in grids]
        self.units = sum(
            _count_pieces(decoder, grid) if whole else len(grid)
            for grid, whole in zip(grids, self.whole, strict=True)
        )

    def run(self, latents: Tensor, wanted: Sequence[int], session: Session, rgb: Canvases) -> None:
        """Decodes pictures into `rgb`, which is zero.

        latents: (tiles of all pictures, C, S, S) float32
        wanted:  numbers of the tiles that count; all, for tiles that were blended
        rgb:     (3, grid height, grid width) of each picture
        """
        for picture, whole in enumerate(self.whole):
            if whole:
                numbers, cells = self.tiles.of(picture), self.tiles.grids[picture].cells()
                latent = composite(latents[numbers.start : numbers.stop], cells)
                decode_canvas(latent, self.decoder, session, rgb[picture])
        apart = [number for number in wanted if not self.whole[self.tiles.locate(number)[0]]]

        def decode_block(block: slice, report: ReportFn) -> None:
            tiles = self.decoder.decode(latents[apart[block]].to(session.device))
            self.tiles.add(rgb, apart[block], tiles)
            report("decode")

        session.run(len(apart), decode_block)
        check_decoded(rgb, self.tiles)


def _count_pieces(decoder: TileDecoder, grid: TileGrid) -> int:
    cells = grid.cells()
    return len(_Pieces(decoder, cells.height, cells.width))


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
    pieces = _Pieces(decoder, *latent.shape[1:])
    features = session.single(lambda: decoder.coarse(latent[None].to(session.device)))
    statistics, whole = _measure(decoder, features, pieces, session)
    if whole is not None:
        rgb.copy_(whole[0])
        session.report(len(pieces), "decode")
        return

    def decode_block(block: slice, report: ReportFn) -> None:
        numbers = range(len(pieces))[block]
        cut = torch.cat([pieces.cut(features, number) for number in numbers])
        for number, piece in zip(numbers, decoder.fine(cut, statistics.norm()), strict=True):
            pieces.paste(rgb, number, piece)
        report("decode")

    session.run(len(pieces), decode_block)


def _measure(
    decoder: TileDecoder, features: Tensor, pieces: _Pieces, session: Session
) -> tuple[NormStatistics, Tensor | None]:
    """Statistics of the fine part's norms, the same whatever memory there is.

    With them comes the canvas in rgb, (1, 3, ..., ...), if it had to be decoded whole for them.
    """
    side = decoder.cells * decoder.features
    count = max(MEASURED_PIECES, MEASURED_PIXELS // (decoder.cells * decoder.pixels) ** 2)
    height, width = features.shape[2:]
    whole = height * width <= count * side**2
    if not whole:
        grid = TileGrid(height, width, side, overlap=0)
        samples = grid.crop(features, _spread(len(grid.rows), len(grid.columns), count))
    else:
        samples = features
    made: list[Tensor] = []
    found: list[NormStatistics] = []
    if session.attempt(
        count,
        lambda: found.append(
            NormStatistics.measure(lambda norm: made.append(decoder.fine(samples, norm)))
        ),
    ):
        return found[0], made[0] if whole else None
    if whole:
        runs = [
            (partial(decoder.fine, pieces.cut(features, number)), partial(pieces.kept, number))
            for number in range(len(pieces))
        ]
    else:
        runs = [(partial(decoder.fine, sample[None]), _everything) for sample in samples]
    return session.single(lambda: NormStatistics.measure_apart(runs)), None


def _spread(rows: int, columns: int, count: int) -> list[int]:
    """Numbers of so many tiles, all over a grid: Hammersley's points."""
    numbers = []
    for i in range(count):
        reversed_bits, bit, rest = 0.0, 0.5, i
        while rest:
            reversed_bits, bit, rest = reversed_bits + bit * (rest % 2), bit / 2, rest // 2
        row, column = (i + 0.5) / count, reversed_bits + 0.5 / count
        numbers.append(int(row * rows) * columns + min(int(column * columns), columns - 1))
    return numbers


def _everything(x: Tensor) -> Tensor:
    return x


class _Pieces:
    """Where pieces lie: all of one size, with context around what they keep, inside the canvas."""

    def __init__(self, decoder: TileDecoder, height: int, width: int) -> None:
        """height, width: of the canvas, in cells."""
        self.scale = decoder.pixels // decoder.features
        self.context = decoder.context
        # A tile's side, unless the context would leave too little of it.
        side = max(decoder.cells * decoder.features, 4 * decoder.context)
        self.rows = self._axis(height * decoder.features, side)
        self.columns = self._axis(width * decoder.features, side)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def _axis(self, length: int, side: int) -> list[_Span]:
        side = min(side, length)
        spans, kept = [], 0
        while kept < length:
            start = min(max(kept - self.context, 0), length - side)
            end = length if start + side >= length else start + side - self.context
            spans.append(_Span(start, side, kept, end))
            kept = end
        return spans

    def _spans(self, number: int) -> tuple[_Span, _Span]:
        row, column = divmod(number, len(self.columns))
        return self.rows[row], self.columns[column]

    def cut(self, features: Tensor, number: int) -> Tensor:
        """A piece with its context: (1, D, side, side)."""
        row, column = self._spans(number)
        return features[
            :, :, row.start : row.start + row.side, column.start : column.start + column.side
        ]

    def kept(self, number: int, x: Tensor) -> Tensor:
        """A piece, at whatever resolution, without its context."""
        row, column = self._spans(number)
        scale = x.shape[2] // row.side
        return x[:, :, row.inside(scale), column.inside(scale)]

    def paste(self, rgb: Tensor, number: int, piece: Tensor) -> None:
        row, column = self._spans(number)
        scale = self.scale
        area = rgb[:, row.kept * scale : row.end * scale, column.kept * scale : column.end * scale]
        area.copy_(piece[:, row.inside(scale), column.inside(scale)])


@dataclass(frozen=True)
class _Span:
    """A piece along one axis, in features: from `start` on; kept from `kept` to `end`."""

    start: int
    side: int
    kept: int
    end: int

    def inside(self, scale: int) -> slice:
        """What is kept, counted from the start of the piece, at `scale` times the resolution."""
        return slice((self.kept - self.start) * scale, (self.end - self.start) * scale)
