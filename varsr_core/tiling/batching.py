"""How many pictures are worked on together: enough to fill the device, and no more."""

from __future__ import annotations

from .canvas import Canvas
from .consistency import Overlaps

# Of the outputs of pictures worked on together; a larger one is alone. It lets as many tiles of 512
# pixels as ever run at once lie in each of four phases.
PIXELS_TOGETHER = 2**24


class PictureBatch:
    """Pictures that are worked on together, while their tiles still fit on the device at once."""

    def __init__(self, size: int) -> None:
        """size: how many tiles run at once."""
        self.tiles, self.pixels = size, PIXELS_TOGETHER
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for any other picture."""
        return self.tiles < 1 or self.pixels < 1

    def take(self, canvas: Canvas) -> bool:
        """Adds one more picture, the first in any case; False when it does not fit."""
        tiles, pixels = _abreast(canvas), canvas.grid.height * canvas.grid.width
        if self.count and (tiles > self.tiles or pixels > self.pixels):
            return False
        self.tiles -= tiles
        self.pixels -= pixels
        self.count += 1
        return True


def _abreast(canvas: Canvas) -> int:
    """How many tiles of a picture run together at any time, at least."""
    if canvas.mode != "phased":
        return len(canvas.grid)
    return min(len(phase) for phase in Overlaps(canvas.grid).phases)
