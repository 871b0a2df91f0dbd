"""Which tiles a mask leaves to be restored."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..images.mask import feathered
from .canvas import Canvas


def touched_tiles(
    canvases: Sequence[Canvas], masks: Sequence[Tensor] | Tensor | None
) -> list[Sequence[int]]:
    """Tiles of each picture that are restored: all, or those where its mask is above 0."""
    if masks is None:
        return [range(len(canvas.grid)) for canvas in canvases]
    found: dict[object, Sequence[int]] = {}
    keys = []
    for canvas, mask in zip(canvases, masks, strict=True):
        # One mask for all pictures is looked at once.
        keys.append((canvas.height, canvas.width, canvas.grid, mask.data_ptr(), mask.shape))
        if keys[-1] not in found:
            # A mask fades in inwards: it is above 0 wherever it is without that.
            whole = feathered(mask[None], canvas.height, canvas.width, 0)
            found[keys[-1]] = canvas.touched(whole, 1)
    return [found[key] for key in keys]
