"""The picture so far, cheaply: what latents show, in the colours of the picture they restore."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.resize import resize
from .canvas import Canvas
from .grid import Canvases, TileIndex
from .sketch import fit_sketch

DENSITY = 4  # pixels of a sketch along a cell, at most
MAX_SIDE = 512  # of a preview, in pixels: more is not seen on a node
FITTED_CELLS = 2048  # that the sketches of a picture are fitted to: of the tiles worked on last
KEPT = 16  # sketches at most, of pictures whose tiles take turns


def preview_size(height: int, width: int) -> tuple[int, int]:
    """Of a picture: its own, neither side above MAX_SIDE."""
    largest = max(height, width, MAX_SIDE)
    return max(1, height * MAX_SIDE // largest), max(1, width * MAX_SIDE // largest)


def reduced(image: Tensor) -> Tensor:
    """A finished picture (3 or 4, H, W) in [0, 1] as a preview, without its alpha: (3, h, w)."""
    return resize(image[None, :3], *preview_size(*image.shape[1:]))[0].cpu()


class TilePreview(Protocol):
    """What the loop over tiles tells of them, and asks for a picture."""

    def note(self, numbers: Sequence[int], latents: Mapping[int, Tensor] | Tensor) -> None: ...

    def drawn(self, number: int) -> Tensor: ...


class Preview:
    """Sketches of the pictures that are worked on, drawn when they are wanted.

    canvases: of each picture
    images:   (C, h, w) in [0, 1] each, the pictures as they were given
    masks:    (1, 1, height, width) at the output size for each picture, or None
    """

    def __init__(
        self,
        canvases: Sequence[Canvas],
        images: Canvases,
        masks: Sequence[Tensor | None] | None = None,
    ) -> None:
        self.canvases, self.images = canvases, images
        self.masks = masks or [None] * len(canvases)
        self.tiles = TileIndex([canvas.grid for canvas in canvases])
        self.begun: OrderedDict[int, _Sketched] = OrderedDict()

    def note(self, numbers: Sequence[int], latents: Mapping[int, Tensor] | Tensor) -> None:
        """What some tiles are now.

        numbers: counted through all pictures
        latents: (C, S, S) float32, anywhere, by the numbers of tiles; are kept, and only looked at
                 when a sketch is drawn
        """
        for number in numbers:
            picture, index = self.tiles.locate(number)
            self._of(picture).note(index, latents[number])

    def drawn(self, number: int) -> Tensor:
        """The picture that holds a tile, as far as it is: (3, h, w), of its preview's size."""
        return self._of(self.tiles.locate(number)[0]).drawn()

    def last(self) -> Tensor:
        """The last picture, all of it anew: what is known of its colours now holds everywhere."""
        return self._of(len(self.canvases) - 1).drawn(anew=True)

    def _of(self, picture: int) -> _Sketched:
        if picture not in self.begun:
            image, mask = self.images[picture], self.masks[picture]
            self.begun[picture] = _Sketched(self.canvases[picture], image[None], mask)
            if len(self.begun) > KEPT:
                self.begun.popitem(last=False)
        self.begun.move_to_end(picture)
        return self.begun[picture]


class _Sketched:
    """The sketch of one picture; the picture itself, enlarged, where nothing is drawn yet."""

    def __init__(self, canvas: Canvas, image: Tensor, mask: Tensor | None) -> None:
        self.canvas, self.image, self.mask = canvas, image, mask
        self.grid = canvas.grid.cells()
        longest = max(self.grid.height, self.grid.width)
        fits = (d for d in (DENSITY, 2) if d * longest <= MAX_SIDE and canvas.grid.align % d == 0)
        self.density = next(fits, 1)
        self.latents: OrderedDict[int, Tensor] = OrderedDict()  # of tiles, the newest last
        self.fresh: set[int] = set()  # tiles that are not drawn as they are now
        self.plain = self.pixels = torch.empty(0)

    def note(self, index: int, latent: Tensor) -> None:
        self.latents[index] = latent
        self.latents.move_to_end(index)
        self.fresh.add(index)

    def drawn(self, anew: bool = False) -> Tensor:
        if not self.pixels.numel():
            reduction = self.canvas.grid.align // self.density
            self.plain = self.canvas.enlarge(self.image, reduction).cpu()
            self.pixels = self.plain.clone()
        if anew:
            self.fresh.update(self.latents)
        if self.fresh:
            self._draw()
        return self._shown()

    def _draw(self) -> None:
        newest = list(self.latents)[-max(1, FITTED_CELLS // self.grid.tile**2) :]
        seen = self.fresh.union(newest)
        away = [index for index in seen if self.latents[index].device.type != "cpu"]
        if away:  # all together, since each copy from a card waits for it
            latents = torch.stack([self.latents[index] for index in away]).cpu()
            self.latents.update(zip(away, latents, strict=True))
        sketch = fit_sketch(
            torch.stack([self.latents[index] for index in newest]),
            torch.cat([self.plain[self._area(index)] for index in newest]),
        )
        for index, latent in self.latents.items():
            if index in self.fresh:
                self.pixels[self._area(index)] = sketch(latent[None])
        self.fresh.clear()

    def _area(self, index: int) -> tuple[slice, ...]:
        d = self.density
        area = (slice(s.start * d, s.stop * d) for s in self.grid.area(index))
        return slice(None), slice(None), *area

    def _shown(self) -> Tensor:
        canvas, pixels = self.canvas, self.pixels
        if self.mask is not None:
            mask = F.pad(self.mask.float().cpu(), self._padding())
            mask = F.interpolate(mask, pixels.shape[2:], mode="area")
            pixels = torch.lerp(self.plain, pixels, mask)
        cell = canvas.grid.align // self.density
        height, width = (-(-side // cell) for side in (canvas.height, canvas.width))
        size = preview_size(canvas.height, canvas.width)
        pixels = pixels[:, :, :height, :width]
        larger = pixels.shape[2] < size[0] or pixels.shape[3] < size[1]
        mode = "bilinear" if larger else "area"
        return F.interpolate(pixels, size, mode=mode)[0]

    def _padding(self) -> tuple[int, int, int, int]:
        """Of a mask, to the whole canvas: right and bottom."""
        grid, canvas = self.canvas.grid, self.canvas
        return 0, grid.width - canvas.width, 0, grid.height - canvas.height
