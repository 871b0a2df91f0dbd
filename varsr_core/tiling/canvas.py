"""From a picture of any size to tiles the model knows, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..images.alpha import enlarge_alpha, with_alpha
from ..images.check import check_pixels
from ..images.output_size import OutputSize
from ..images.resize import pad_reflect, resize
from ..images.seen import alpha_of, is_grey, seen_colors, without_color
from .consistency import Tiling, TilingMode
from .grid import TileGrid


@dataclass(frozen=True)
class Canvas:
    """All it takes to turn restored tiles into the output.

    images:        pictures in the batch
    height, width: of the output; the padded canvas of `grid` is cropped to it
    grid:          tiles of one picture
    mode:          in which order tiles run, and how they blend
    alpha:         (B, 1, h, w) at the input size, set aside while the model works, or None
    grey:          for each picture, whether it has no colour, and is to come back without
    image:         (B, C, h, w) the pictures as they were given, for previews; None if not kept
    """

    images: int
    height: int
    width: int
    grid: TileGrid
    mode: TilingMode = "phased"
    alpha: Tensor | None = None
    grey: tuple[bool, ...] = ()
    image: Tensor | None = None

    @staticmethod
    def of(image: Tensor, size: OutputSize, tile: int, align: int, tiling: Tiling) -> Canvas:
        """For pictures (B, C, H, W); a side below a tile is padded. Raises InputError."""
        check_pixels(image)
        height, width = size.of(*image.shape[2:])
        padded = [max(tile, -(-side // align) * align) for side in (height, width)]
        overlap = int(tile * tiling.overlap)
        grid = TileGrid(*padded, tile=tile, overlap=overlap, align=align)
        return Canvas(image.shape[0], height, width, grid, tiling.mode, *_kept(image), image)

    def of_one(self, image: Tensor) -> Canvas:
        """That of one picture of the batch, (1, C, h, w)."""
        alpha, grey = _kept(image)
        return replace(self, images=1, alpha=alpha, grey=grey, image=image)

    @property
    def tiles(self) -> int:
        """Tiles of all pictures."""
        return self.images * len(self.grid)

    @property
    def blended(self) -> bool:
        """Whether overlapping tiles show the same before they are decoded."""
        return self.mode != "independent"

    def enlarge(self, image: Tensor, reduction: int = 1) -> Tensor:
        """Pictures of the batch, plainly resized and padded: (B, 3, grid height, grid width).

        Pixels that are hidden by alpha take the colours of those that are seen.

        reduction: pixels of the output, along a side, for which one is wanted
        """
        height, width = (-(-side // reduction) for side in (self.height, self.width))
        sides = (side // reduction for side in (self.grid.height, self.grid.width))
        return pad_reflect(resize(seen_colors(image).expand(-1, 3, -1, -1), height, width), *sides)

    def crop(self, rgb: Tensor) -> Tensor:
        """(..., grid height, grid width) -> (..., height, width)."""
        return rgb[..., : self.height, : self.width]

    def colored(self, rgb: Tensor) -> Tensor:
        """(B, 3, height, width), without colour where the picture has none."""
        if not any(self.grey):
            return rgb
        pairs = zip(rgb.split(1), self.grey, strict=True)
        return torch.cat([without_color(one) if grey else one for one, grey in pairs])

    def enlarged_alpha(self) -> Tensor | None:
        """(B, 1, height, width), if the pictures have one."""
        return None if self.alpha is None else enlarge_alpha(self.alpha, self.height, self.width)

    def with_alpha(self, rgb: Tensor) -> Tensor:
        """The pictures at the output size, with their alpha if they have one."""
        return with_alpha(rgb, self.enlarged_alpha())

    def output(self, like: Tensor, out: Tensor | None = None) -> Tensor:
        """Where the pictures go: (B, 3, or 4 with alpha, height, width), `out` if it has that shape

        New memory lies where `like` does, the channels of a pixel together, as hosts keep pictures:
        so they need no copy. It is written to at once, so that a picture that does not fit fails
        before any work.
        """
        shape = (self.images, 3 if self.alpha is None else 4, self.height, self.width)
        if out is None:
            pixels = torch.zeros(self.images, *shape[2:], shape[1]).to(like.device).fill_(0)
            return pixels.movedim(-1, 1)
        if out.shape != shape:
            raise ValueError(f"out has shape {tuple(out.shape)}; {shape} is expected")
        return out

    def touched(self, mask: Tensor | None, images: int) -> list[int]:
        """Numbers of the tiles, of that many pictures, where a mask is above 0; all without one.

        mask: (images or 1, 1, height, width) at the output size
        """
        everything = range(images * len(self.grid))
        if mask is None:
            return list(everything)
        mask = pad_reflect(mask, self.grid.height, self.grid.width).expand(images, -1, -1, -1)
        return [number for number in everything if self._holds(mask, number)]

    def _holds(self, mask: Tensor, number: int) -> bool:
        image, index = divmod(number, len(self.grid))
        return bool((mask[(image, 0, *self.grid.area(index))] > 0).any())


def _kept(image: Tensor) -> tuple[Tensor | None, tuple[bool, ...]]:
    """What a picture has, or lacks, and the model does not keep."""
    return alpha_of(image), tuple(map(is_grey, image.split(1)))
