"""What is seen of a picture: what its transparency hides, and whether it has colour at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .cielab import XYZ_FROM_RGB

# Colours are trusted in full from this opacity on, and less and less below it: with few levels of
# alpha to divide by, what programs leave there is far off, and next to nothing of it is seen.
TRUSTED = 1 / 16
LEAST_WEIGHT = 1e-12  # to divide by where nothing is seen


def opacity(alpha: Tensor | None) -> Tensor | None:
    """How much each pixel counts, (1, 1, H, W) in [0, 1]; None where all count alike.

    alpha: (1, 1, H, W) of one picture, or None for an opaque one. Where all is hidden, nothing is
           left to prefer, and the picture is taken as it is.
    """
    if alpha is None:
        return None
    low, high = alpha.aminmax()
    return None if low >= 1 or high <= 0 else alpha.clamp(0, 1)


def alpha_of(image: Tensor) -> Tensor | None:
    """The fourth channel of (B, C, H, W), if it has one: (B, 1, H, W)."""
    return image[:, 3:] if image.shape[1] == 4 else None


def seen_colors(image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1 or 3, H, W), hidden pixels filled from the nearest that are seen.

    What lies under transparency is anything, often black, and would show in the visible rim after
    resizing, and in all of the picture after the model. Pull-push (Gortler et al., "The Lumigraph",
    1996, section 3.4): pixels are averaged, weighed by their opacity, to smaller and smaller
    pictures, whose colours fill what lacks some in the larger ones. Opaque pixels keep their exact
    colours; pictures that hide nothing are not copied.
    """
    if image.shape[1] != 4:
        return image
    parts = [_filled_one(one) for one in image.split(1)]
    hides = any(part is not None for part in parts)
    if not hides:
        return image[:, :3]
    pairs = zip(parts, image.split(1), strict=True)
    return torch.cat([one[:, :3].float() if part is None else part for part, one in pairs])


def _filled_one(image: Tensor) -> Tensor | None:
    """None where nothing is hidden."""
    weight = opacity(alpha_of(image))
    if weight is None or weight.min() >= TRUSTED:
        return None
    # On the CPU, as all resizing, so that no device rounds differently.
    weight = (weight.float().cpu() / TRUSTED).clamp_(max=1)
    return _filled(image[:, :3].float().cpu(), weight).to(image.device)


def _filled(colors: Tensor, weight: Tensor) -> Tensor:
    """colors: (1, 3, h, w); weight: (1, 1, h, w) in [0, 1], somewhere above 0"""
    height, width = colors.shape[2:]
    if height == width == 1:
        return colors
    smaller = _halved(weight)
    averaged = _halved(colors * weight).div_(smaller.clamp(min=LEAST_WEIGHT))
    coarse = _filled(averaged, (4 * smaller).clamp_(max=1))
    fill = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return torch.lerp(fill, colors, weight)


def _halved(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)


def is_grey(image: Tensor) -> bool:
    """Whether what is seen of one picture, (1, C, H, W), has no colour: all channels are equal.

    A scan with the least tint has colour. Ends at the first pixels that differ.
    """
    if image.shape[1] == 1:
        return True
    channels, weight = image[0, :3], opacity(alpha_of(image))
    if weight is not None:
        channels = channels.masked_fill(weight[0] <= 0, 0)
    red, green, blue = channels
    return torch.equal(red, green) and torch.equal(green, blue)


def without_color(rgb: Tensor) -> Tensor:
    """(B, 3, H, W) -> the same with its luma in each channel, which are one memory.

    Luma is the sum of R, G and B as they are, weighed by what they add to the luminance of sRGB.
    Pixels that are grey keep their exact value.
    """
    red, green, blue = rgb.split(1, dim=1)
    to_red, _, to_blue = XYZ_FROM_RGB[1]
    luma = torch.add(green, red - green, alpha=to_red).add_(blue - green, alpha=to_blue)
    return luma.expand_as(rgb)
