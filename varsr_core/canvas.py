"""From a picture of any size to tiles the model knows, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError
from .tiling import TileGrid

MIN_SIDE = 8  # pixels; anything thinner is no picture to restore
MAX_OUTPUT_PIXELS = 2**28  # 16384 x 16384: 3.2 GB as float32
RANGE_TOLERANCE = 0.1  # resampling overshoots [0, 1] a little; more than this is another range


@dataclass(frozen=True)
class Canvas:
    """All it takes to turn restored tiles into the output.

    images:        pictures in the batch
    height, width: of the output; the padded canvas of `grid` is cropped to it
    alpha:         (B, 1, H, W) at the output size, set aside while the model works, or None
    """

    images: int
    height: int
    width: int
    grid: TileGrid
    alpha: Tensor | None = None

    def join(self, tiles: Tensor) -> Tensor:
        """(images * tiles, 3, tile, tile) -> (images, 3 or 4, height, width), alpha rejoined."""
        image = self.grid.merge(tiles)[:, :, : self.height, : self.width]
        return image if self.alpha is None else torch.cat((image, self.alpha.to(image)), dim=1)


def check_image(image: Tensor, name: str = "image") -> None:
    """Refuses what cannot be restored: (B, C, H, W) in [0, 1], C 1, 3 or 4. Raises InputError."""
    height, width = image.shape[2:]
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{name} is {width}x{height} pixels; sides of {MIN_SIDE} pixels or more are expected. "
            "Crop or pad it first."
        )
    check_pixels(image, name)


def check_pixels(image: Tensor, name: str = "image") -> None:
    """Refuses what is no picture of any size: (B, C, H, W) in [0, 1], C 1, 3 or 4."""
    channels = image.shape[1]
    if channels not in (1, 3, 4):
        raise InputError(
            f"{name} has {channels} channels; 1 (grey), 3 (RGB) or 4 (RGBA) are expected. "
            "Split it or convert it to RGB first."
        )
    if image.numel() == 0:
        raise InputError(
            f"{name} holds {image.shape[0]} pictures of {image.shape[3]}x{image.shape[2]} pixels; "
            "at least one of at least one pixel is expected. Check the node before this one."
        )
    low, high = image.aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise InputError(
            f"{name} contains NaN or infinite pixels. The node before this one failed to make a "
            "picture; mend it there (often: run its VAE in float32)."
        )
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise InputError(
            f"{name} has values from {low:.3g} to {high:.3g}; 0 to 1 is expected. Rescale it first."
        )


def output_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of the output, rounded. Raises InputError beyond the limit."""
    if not 0 < scale < math.inf:
        raise InputError(f"scale is {scale}; a finite number above 0 is expected")
    height, width = round(height * scale), round(width * scale)
    if height * width > MAX_OUTPUT_PIXELS:
        raise InputError(
            f"scale {scale:g} gives {width}x{height} = {height * width / 1e6:.0f} million pixels; "
            f"the limit is {MAX_OUTPUT_PIXELS / 1e6:.0f} million. Use a smaller scale, or crop."
        )
    if min(height, width) < 1:
        raise InputError(f"scale {scale:g} leaves {width}x{height} pixels. Use a larger scale.")
    return height, width


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic resize to (height, width), clamped to [0, 1].

    The kernel is PIL's (a = -0.5), which the models were trained with; unlike PIL there is no
    rounding to 8 bits. Runs on the CPU, because MPS lacks it and other devices round differently.
    """
    resized = F.interpolate(
        image.float().cpu(), (height, width), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.clamp(0, 1).to(image.device)


def split_image(
    image: Tensor, scale: float, tile: int, *, overlap: int, align: int
) -> tuple[Tensor, Canvas]:
    """Enlarges a picture and cuts it into tiles.

    image:   (B, C, H, W) in [0, 1]; grey is repeated, alpha set aside
    scale:   output size divided by input size
    tile:    side of a tile in pixels; a smaller picture is padded, never stretched
    overlap: least overlap of neighbouring tiles, in pixels
    align:   tiles start at multiples of this many pixels
    returns  (B * tiles, 3, tile, tile) in [0, 1], and how to put them together
    """
    check_image(image)
    height, width = output_size(*image.shape[2:], scale)
    image = resize(image, height, width)
    alpha = image[:, 3:] if image.shape[1] == 4 else None
    rgb = image[:, :3].expand(-1, 3, -1, -1)
    padded = [max(tile, -(-side // align) * align) for side in (height, width)]
    grid = TileGrid(*padded, tile=tile, overlap=overlap, align=align)
    tiles = grid.split(pad_reflect(rgb, *padded))
    return tiles, Canvas(image.shape[0], height, width, grid, alpha)


def pad_reflect(image: Tensor, height: int, width: int) -> Tensor:
    """Reflects a picture at its right and bottom border: -> (B, C, height, width)."""
    rows = _reflected(image.shape[2], height, image.device)
    columns = _reflected(image.shape[3], width, image.device)
    return image.index_select(2, rows).index_select(3, columns)


def _reflected(length: int, wanted: int, device: torch.device) -> Tensor:
    """Indices 0 .. length - 1 .. 0 .. up to `wanted`, without repeating the border."""
    if length == 1:
        return torch.zeros(wanted, dtype=torch.long, device=device)
    index = torch.arange(wanted, device=device) % (2 * length - 2)
    return torch.minimum(index, 2 * length - 2 - index)
