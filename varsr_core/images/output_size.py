"""How large the output is: by factor, by one of its sides, or by its number of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from ..errors import InputError

SizeMode = Literal["scale", "longer side", "shorter side", "megapixels"]
SIZE_MODES: tuple[str, ...] = get_args(SizeMode)

MAX_OUTPUT_PIXELS = 2**28  # 16384 x 16384: 3.2 GB as float32
MEGAPIXEL = 1_000_000  # pixels; not 2**20
HALVINGS = 100  # of an interval of floats: more than it takes to reach neighbours


@dataclass(frozen=True)
class OutputSize:
    """A wish that gives every picture its output size.

    mode:  what `value` means. scale: output size divided by input size; longer side, shorter side:
           pixels of that side; megapixels: millions of pixels of the picture (1,000,000, not 2**20)
    value: finite, above 0

    Raises InputError for anything else.
    """

    mode: SizeMode = "scale"
    value: float = 4.0

    def __post_init__(self) -> None:
        if self.mode not in SIZE_MODES:
            raise InputError(f"size mode {self.mode!r} is none of {', '.join(SIZE_MODES)}")
        if not 0 < self.value < math.inf:
            raise InputError(f"{self.mode} is {self.value}; a finite number above 0 is expected")

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output of a picture of `height` x `width` pixels.

        Both sides are multiplied by one factor, rounded half up, and have at least 1 pixel.
        Raises InputError for an empty picture and beyond MAX_OUTPUT_PIXELS.
        """
        if min(height, width) < 1:
            raise InputError(
                f"a picture of {width}x{height} pixels has no output size; at least one pixel is "
                "expected. Check the node before this one."
            )
        found = _SIZES[self.mode](height, width, self.value)
        pixels = math.prod(found)
        if pixels > MAX_OUTPUT_PIXELS:
            raise InputError(
                f"{self.mode} {self.value:g} gives {found[1]}x{found[0]} = {pixels // MEGAPIXEL} "
                f"million pixels; the limit is {MAX_OUTPUT_PIXELS / MEGAPIXEL:.0f} million. Use a "
                f"smaller {self.mode}, or crop."
            )
        return found


def as_output_size(size: float | OutputSize) -> OutputSize:
    """A plain number is a scale. Raises InputError when it is not finite and above 0."""
    return size if isinstance(size, OutputSize) else OutputSize("scale", size)


def _by_scale(height: int, width: int, value: float) -> tuple[int, int]:
    return _enlarged(height, width, _exact(value))


def _by_longer_side(height: int, width: int, value: float) -> tuple[int, int]:
    return _by_side(height, width, max(height, width), value)


def _by_shorter_side(height: int, width: int, value: float) -> tuple[int, int]:
    return _by_side(height, width, min(height, width), value)


def _by_side(height: int, width: int, side: int, value: float) -> tuple[int, int]:
    return _enlarged(height, width, Fraction(_rounded(_exact(value)), side))


def _by_megapixels(height: int, width: int, value: float) -> tuple[int, int]:
    """Of all sizes that one factor gives, the one with the number of pixels nearest to `value`.

    The number grows with the factor in steps, because sides are whole; the steps just below and
    just above the wish are found by halving. The exact factor alone can be far off: 1000x1 has
    hundreds of widths for each height.
    """
    wanted = _exact(value) * MEGAPIXEL
    below, above = 0.0, 2 * math.sqrt(MEGAPIXEL) * math.sqrt(value / (height * width))
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        enough = math.prod(_enlarged(height, width, Fraction(middle))) >= wanted
        below, above = (below, middle) if enough else (middle, above)
    sizes = [_enlarged(height, width, Fraction(factor)) for factor in (below, above)]
    return min(sizes, key=lambda size: abs(math.prod(size) - wanted))


_SIZES: dict[str, Callable[[int, int, float], tuple[int, int]]] = {
    "scale": _by_scale,
    "longer side": _by_longer_side,
    "shorter side": _by_shorter_side,
    "megapixels": _by_megapixels,
}


def _exact(value: float) -> Fraction:
    """The decimal number as it was typed: 2.3 is 23/10, a half stays a half after 5 * 2.3."""
    return Fraction(str(float(value)))


def _enlarged(height: int, width: int, factor: Fraction) -> tuple[int, int]:
    return _rounded(height * factor), _rounded(width * factor)


def _rounded(length: Fraction) -> int:
    """Half up, not to even as round() does, so that sizes grow evenly; at least 1."""
    return max(1, math.floor(length + Fraction(1, 2)))
