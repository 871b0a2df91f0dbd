"""How many pictures are restored together: enough to fill the device, and no more."""

from __future__ import annotations

from .canvas import Canvas
from .consistency import Overlaps

# Of the outputs of one batch; a larger picture is alone. So many hold 64 tiles of 512 pixels, which
# are in each of four phases as many as ever run at once.
PIXELS_TOGETHER = 2**24


class PictureBatch:
    """A batch that takes pictures as long as their tiles fit on the device at once."""

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
        tiles, pixels = _tiles_at_once(canvas), canvas.grid.height * canvas.grid.width
        if self.count and (tiles > self.tiles or pixels > self.pixels):
            return False
        self.tiles -= tiles
        self.pixels -= pixels
        self.count += 1
        return True


def _tiles_at_once(canvas: Canvas) -> int:
    """How many tiles of a picture can always run together: those of its smallest phase."""
    if canvas.mode != "phased":
        return len(canvas.grid)
    return min(len(phase) for phase in Overlaps(canvas.grid).phases)
