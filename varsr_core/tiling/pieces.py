"""Where the pieces lie that a canvas is decoded in: pure geometry, in features of the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


class Pieces:
    """Where pieces lie: all of one size, with context around what they keep, inside the canvas."""

    def __init__(self, height: int, width: int, tile: int, context: int, scale: int) -> None:
        """height, width, tile, context: of canvas and tile, and around a piece, in features
        scale: pixels of a feature
        """
        self.context, self.scale = context, scale
        # A tile's side, unless the context would leave too little of it.
        side = max(tile, 4 * context)
        self.rows, self.columns = self._axis(height, side), self._axis(width, side)

    @property
    def sides(self) -> tuple[int, int]:
        """Of every piece, with its context, in features."""
        return self.rows[0].side, self.columns[0].side

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

    def paste(self, rgb: Tensor, numbers: Sequence[int], decoded: Tensor) -> None:
        """Pieces in pixels, with their context, to their places; decoded: (len(numbers), 3, ...)"""
        s = self.scale
        for number, piece in zip(numbers, decoded, strict=True):
            row, column = self._spans(number)
            area = rgb[:, row.kept * s : row.end * s, column.kept * s : column.end * s]
            area.copy_(piece[:, row.inside(s), column.inside(s)])


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


def spread(rows: int, columns: int, count: int) -> list[int]:
    """Numbers of so many tiles, all over a grid: Hammersley's points."""
    numbers = []
    for i in range(count):
        reversed_bits, bit, rest = 0.0, 0.5, i
        while rest:
            reversed_bits, bit, rest = reversed_bits + bit * (rest % 2), bit / 2, rest // 2
        row, column = (i + 0.5) / count, reversed_bits + 0.5 / count
        numbers.append(int(row * rows) * columns + min(int(column * columns), columns - 1))
    return numbers
