"""The picture so far, cheaply: each cell of a latent gives a few pixels, by one linear map."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas import Canvas
from .grid import TileIndex

DENSITY = 4  # pixels of a preview along a cell, at most; it divides the pixels of every family
MAX_SIDE = 512  # of a preview: ComfyUI shows previews no larger
GREY = 0.5
KEPT = 16  # previews at most, of pictures whose tiles take turns

PreviewFn = Callable[[Tensor], Tensor]
"""(N, C, S, S) -> (N, 3, S * DENSITY, S * DENSITY) in [0, 1]."""


class Preview:
    """Small pictures of what is worked on, painted tile by tile.

    canvases:    of each picture
    paint:       PreviewFn of the family
    backgrounds: (3, grid height, grid width) in [0, 1] each, shown where nothing is painted yet
    """

    def __init__(
        self,
        canvases: Sequence[Canvas],
        paint: PreviewFn,
        backgrounds: Sequence[Tensor] | None = None,
    ) -> None:
        self.canvases, self.paint, self.backgrounds = canvases, paint, backgrounds
        self.tiles = TileIndex([canvas.grid for canvas in canvases])
        self.begun: OrderedDict[int, _Painted] = OrderedDict()

    def painted(self, numbers: Sequence[int], latents: Tensor) -> Tensor:
        """The picture that holds the first of some tiles, with what was made of it since.

        numbers:  of tiles, counted through all pictures; latents: (len(numbers), C, S, S)
        returns   (3, h, w) in [0, 1], neither side above MAX_SIDE
        """
        found = [self.tiles.locate(number) for number in numbers]
        for (picture, index), pixels in zip(found, self.paint(latents), strict=True):
            self._of(picture).add(index, pixels)
        return self._of(found[0][0]).shown()

    def _of(self, picture: int) -> _Painted:
        if picture not in self.begun:
            background = None if self.backgrounds is None else self.backgrounds[picture]
            self.begun[picture] = _Painted(self.canvases[picture], background)
            if len(self.begun) > KEPT:
                self.begun.popitem(last=False)
        self.begun.move_to_end(picture)
        return self.begun[picture]


class _Painted:
    """The preview of one picture."""

    def __init__(self, canvas: Canvas, background: Tensor | None) -> None:
        self.grid = canvas.grid.cells()
        longest = max(self.grid.height, self.grid.width)
        self.density = next((d for d in (DENSITY, 2) if d * longest <= MAX_SIDE), 1)
        self.height = math.ceil(canvas.height * self.density / canvas.grid.align)
        self.width = math.ceil(canvas.width * self.density / canvas.grid.align)
        size = (self.grid.height * self.density, self.grid.width * self.density)
        if background is None:
            self.pixels = torch.full((3, *size), GREY)
        else:
            self.pixels = F.interpolate(background[None].cpu(), size, mode="area")[0]

    def add(self, index: int, pixels: Tensor) -> None:
        """pixels: of one tile, as a PreviewFn gives them."""
        area = (
            slice(cells.start * self.density, cells.stop * self.density)
            for cells in self.grid.area(index)
        )
        self.pixels[(slice(None), *area)] = F.avg_pool2d(pixels, DENSITY // self.density)

    def shown(self) -> Tensor:
        picture = self.pixels[:, : self.height, : self.width]
        largest = max(picture.shape[1:])
        if largest <= MAX_SIDE:
            return picture.clone()
        height, width = (max(1, side * MAX_SIDE // largest) for side in picture.shape[1:])
        return F.adaptive_avg_pool2d(picture, (height, width))
