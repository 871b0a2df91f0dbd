"""The picture so far, cheaply: each cell of a latent gives a few pixels, by one linear map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas import Canvas
from .least_squares import LeastSquares
from .noise import derive_seed

DENSITY = 4  # pixels of a sketch along a cell, at most; it divides the pixels of every family
MAX_SIDE = 512  # of a sketch: ComfyUI shows previews no larger
FITTED_SIDE = 256  # of the pictures that a map is fitted to
FITTED_PICTURES = 2
RIDGE = 1e-5  # of the mean square of the latent
GREY = 0.5

SketchFn = Callable[[Tensor], Tensor]
"""(N, C, S, S) -> (N, 3, S * DENSITY, S * DENSITY) in [0, 1]."""


@dataclass(frozen=True)
class LinearSketch:
    """A SketchFn. weight: (3 * DENSITY**2, C); bias: (3 * DENSITY**2,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, latent: Tensor) -> Tensor:
        pixels = F.conv2d(latent, self.weight[:, :, None, None], self.bias)
        return F.pixel_shuffle(pixels, DENSITY).clamp(0, 1)


def fit_sketch(encode: Callable[[Tensor], Tensor], device: torch.device) -> LinearSketch:
    """The map that best undoes `encode`, on pictures of smooth colours and edges made up here.

    encode: (N, 3, FITTED_SIDE, FITTED_SIDE) in [0, 1] -> (N, C, S, S), on `device`
    """
    pictures = _made_up_pictures()
    latent = encode(pictures.to(device)).float().cpu()
    pixels = F.adaptive_avg_pool2d(pictures, latent.shape[-1] * DENSITY)
    wanted = F.pixel_unshuffle(pixels, DENSITY)
    squares = LeastSquares(latent.shape[1], wanted.shape[1], ridge=RIDGE)
    squares.add(*(cells.movedim(1, -1).flatten(0, 2) for cells in (latent, wanted)))
    return LinearSketch(*squares.solve())


def _made_up_pictures() -> Tensor:
    """Colour noise of all sizes, half of it cut into flat areas."""
    generator = torch.Generator().manual_seed(derive_seed(0, "sketch"))
    total = torch.zeros(FITTED_PICTURES, 3, FITTED_SIDE, FITTED_SIDE)
    side = 2
    while side <= FITTED_SIDE // 4:
        drawn = torch.randn(FITTED_PICTURES, 3, side, side, generator=generator) / side**0.5
        total += F.interpolate(drawn, FITTED_SIDE, mode="bicubic", align_corners=False)
        side *= 2
    total[1::2] = (total[1::2] * 2).round() / 2
    return (GREY + total / 4).clamp(0, 1)


class Sketch:
    """A small picture of one canvas, painted tile by tile while they are worked on.

    canvas:      what is worked on
    paint:       SketchFn of the family
    backgrounds: (images, 3, grid height, grid width) in [0, 1], shown where nothing is painted yet
    """

    def __init__(self, canvas: Canvas, paint: SketchFn, backgrounds: Tensor | None = None) -> None:
        self.grid, self.paint, self.backgrounds = canvas.grid.cells(), paint, backgrounds
        longest = max(self.grid.height, self.grid.width)
        self.density = next((d for d in (DENSITY, 2) if d * longest <= MAX_SIDE), 1)
        cell = canvas.grid.align
        self.height = math.ceil(canvas.height * self.density / cell)
        self.width = math.ceil(canvas.width * self.density / cell)
        self.image = -1
        self.pixels = torch.empty(0)

    def painted(self, numbers: Sequence[int], latents: Tensor) -> Tensor:
        """The picture that holds the first of some tiles, with what was made of it since.

        numbers:  of tiles, counted through all pictures; latents: (len(numbers), C, S, S)
        returns   (3, h, w) in [0, 1], neither side above MAX_SIDE
        """
        tiles = len(self.grid)
        image = numbers[0] // tiles
        if image != self.image:
            self.image, self.pixels = image, self._background(image)
        own = [i for i, number in enumerate(numbers) if number // tiles == image]
        made = F.avg_pool2d(self.paint(latents[own]), DENSITY // self.density)
        for i, pixels in zip(own, made, strict=True):
            area = self.grid.area(numbers[i] % tiles)
            scaled = (slice(a.start * self.density, a.stop * self.density) for a in area)
            self.pixels[(slice(None), *scaled)] = pixels
        picture = self.pixels[:, : self.height, : self.width]
        largest = max(picture.shape[1:])
        if largest <= MAX_SIDE:
            return picture.clone()
        sides = [max(1, side * MAX_SIDE // largest) for side in picture.shape[1:]]
        return F.adaptive_avg_pool2d(picture, sides)

    def _background(self, image: int) -> Tensor:
        size = (self.grid.height * self.density, self.grid.width * self.density)
        if self.backgrounds is None:
            return torch.full((3, *size), GREY)
        return F.interpolate(self.backgrounds[image : image + 1].cpu(), size, mode="area")[0]
