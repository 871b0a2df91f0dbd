"""The square of a picture that is learned from: at random, or as in the public code of VARSR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...images.resize import resize as resize_clamped

PUBLIC_TILE = 512  # pixels; the tile of the released model, to which the next one belongs
PUBLIC_SHORT_SIDE = 640  # of good pictures before they are cropped


class Crop(Protocol):
    """How a tile is cut out of a picture."""

    def fits(self, height: int, width: int) -> bool:
        """Whether a picture is large enough."""
        ...

    def __call__(self, pixels: np.ndarray, low: bool, generator: torch.Generator) -> Tensor:
        """(H, W, 3) uint8 -> (3, S, S) float32 in [0, 1]; `low`: a picture of the low class."""
        ...


@dataclass(frozen=True)
class RandomCrop:
    """A square at random.

    flips, rotations: whether it is mirrored at random, and turned by a multiple of 90 degrees
    zoom:             smallest factor by which a larger square is shrunk at random; 1 for never
    """

    size: int
    flips: bool = True
    rotations: bool = True
    zoom: float = 1.0

    def fits(self, height: int, width: int) -> bool:
        return min(height, width) >= self.size

    def __call__(self, pixels: np.ndarray, low: bool, generator: torch.Generator) -> Tensor:
        side = self.size
        if self.zoom < 1:
            factor = 1 - (1 - self.zoom) * torch.rand((), generator=generator).item()
            side = min(round(side / factor), *pixels.shape[:2])
        top, left = (
            int(torch.randint(length - side + 1, (), generator=generator))
            for length in pixels.shape[:2]
        )
        crop = to_tensor(pixels[top : top + side, left : left + side])
        if side != self.size:
            crop = resize_clamped(crop[None], self.size, self.size)[0]
        flip, turns = torch.randint(4, (2,), generator=generator).tolist()
        if self.flips and flip % 2:
            crop = crop.flip(2)
        if self.rotations:
            crop = crop.rot90(turns, (1, 2))
        return crop.contiguous()


@dataclass(frozen=True)
class PublicCrop:
    """The middle of a picture, mirrored at random, as in the public code of VARSR.

    A good picture is first resized by PIL's Lanczos filter, so that its short side is 5/4 of the
    tile (640 for 512); one of the low class so that it is the tile. Small pictures are enlarged:
    many of the rated pictures that the low class is made of are smaller than a tile.
    """

    size: int

    def fits(self, height: int, width: int) -> bool:
        return min(height, width) > 0

    def __call__(self, pixels: np.ndarray, low: bool, generator: torch.Generator) -> Tensor:
        short = self.size if low else round(self.size * PUBLIC_SHORT_SIDE / PUBLIC_TILE)
        image = Image.fromarray(pixels)
        # The long side is rounded down, the margin to an even number of pixels where it is half.
        width, height = (short * side // min(image.size) for side in image.size)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        crop = to_tensor(np.array(image.crop((left, top, left + self.size, top + self.size))))
        mirrored = bool(torch.randint(2, (), generator=generator))
        return (crop.flip(2) if mirrored else crop).contiguous()


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255)
