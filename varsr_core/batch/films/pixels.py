"""What a frame of a film says of itself: how it is turned, what its numbers mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

CODED_AS_RGB, UNSAID, BT709, BT601 = 0, 2, 1, 6  # colour spaces
SWS_BT601 = 5  # as the scaler calls it
HD_HEIGHT = 720  # pixels; from here on, players take what is unsaid for BT.709, below for BT.601
SHALLOW = 8  # bits; a film of more is worked on with 16 and written with ten
MATRIX = "DISPLAYMATRIX"
# What frames may carry that no encoder here writes.
CARRIED = {
    "A53_CC": "closed captions",
    "STEREO3D": "the layout of both eyes' pictures",
    "SPHERICAL": "the projection of a film all around",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
}


@dataclass(frozen=True)
class Turn:
    """How players turn a frame: transposed, then mirrored left to right, then upside down."""

    transposed: bool = False
    across: bool = False
    down: bool = False

    @classmethod
    def of(cls, frame: Any) -> Turn:
        """By the frame's display matrix, to the nearest quarter."""
        data = next((one for one in frame.side_data if one.type.name == MATRIX), None)
        if data is None:
            return cls()
        a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), "<i4")[:5])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def mirrored(self) -> bool:
        """Whether it is no mere rotation."""
        return self.transposed ^ self.across ^ self.down

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """rows: (H, W, C)"""
        rows = rows.swapaxes(0, 1) if self.transposed else rows
        return rows[:: -1 if self.down else 1, :: -1 if self.across else 1]


def is_deep(frame: Any) -> bool:
    return max(component.bits for component in frame.format.components) > SHALLOW


def has_alpha(frame: Any) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def coded_as_rgb(frame: Any) -> bool:
    return frame.colorspace == CODED_AS_RGB


def has_no_color(frame: Any) -> bool:
    rows = frame.to_ndarray(format="rgb24")
    return bool((rows == rows[..., :1]).all())


def carried(frame: Any) -> Iterator[str]:
    """What the frame carries that is lost, in words."""
    names = {one.type.name for one in frame.side_data}
    yield from dict.fromkeys(words for name, words in CARRIED.items() if name in names)


def array_of(frame: Any, form: str, width: int, height: int) -> np.ndarray:
    """(height, width, C) in whole numbers, turned as the film says it is to be shown.

    form: of NumPy's frames; a frame of another size than the first is scaled to its size
    """
    turn = Turn.of(frame)
    wanted: dict[str, Any] = {}
    size = (height, width) if turn.transposed else (width, height)
    if size != (frame.width, frame.height):
        wanted = {"width": size[0], "height": size[1], "interpolation": "LANCZOS"}
    if coded_as_rgb(frame) and not frame.format.is_rgb:  # what it says cannot be so
        wanted["src_colorspace"] = BT709 if frame.height >= HD_HEIGHT else SWS_BT601
    return turn(frame.to_ndarray(format=form, **wanted))


def result_space(frame: Any) -> int:
    """Of the result, which is larger: players might no longer take what is unsaid for BT.601."""
    if coded_as_rgb(frame):
        return BT709 if frame.format.is_rgb or frame.height >= HD_HEIGHT else BT601
    return BT601 if frame.colorspace == UNSAID and frame.height < HD_HEIGHT else frame.colorspace
