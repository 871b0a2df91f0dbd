"""Gives a restored picture the colours of the picture it was made from (paper, section 4.1)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError

ColorMode = Literal["adain", "wavelet", "none"]
COLOR_MODES: tuple[str, ...] = get_args(ColorMode)

WAVELET_LEVELS = 5
VARIANCE_FLOOR = 1e-5


def check_mode(mode: str) -> None:
    """Refuses an unknown colour mode. Raises InputError."""
    if mode not in COLOR_MODES:
        raise InputError(f"colour mode {mode!r} is none of {', '.join(COLOR_MODES)}")


def adain(image: Tensor, reference: Tensor) -> Tensor:
    """Mean and deviation of each channel taken from `reference`; both (B, 3, H, W)."""
    mean, deviation = _statistics(image)
    wanted_mean, wanted_deviation = _statistics(reference)
    return (image - mean) / deviation * wanted_deviation + wanted_mean


def wavelet(image: Tensor, reference: Tensor) -> Tensor:
    """Detail of `image` on the low band of `reference`; both (B, 3, H, W), the same size."""
    return image - low_band(image) + low_band(reference)


def low_band(image: Tensor) -> Tensor:
    """(B, 3, H, W) blurred five times with the dilated kernel [1 2 1] x [1 2 1] / 16."""
    line = torch.tensor([1.0, 2.0, 1.0], device=image.device) / 4
    kernel = torch.outer(line, line).expand(image.shape[1], 1, 3, 3)
    for level in range(WAVELET_LEVELS):
        radius = 2**level
        padded = F.pad(image, (radius,) * 4, mode="replicate")
        image = F.conv2d(padded, kernel, dilation=radius, groups=image.shape[1])
    return image


def match_colors(
    image: Tensor, reference: Tensor, mode: ColorMode = "adain", strength: float = 1.0
) -> Tensor:
    """Colours of `reference` on the picture `image`; statistics per picture, never per tile.

    image:     (B, 3, H, W) in [0, 1]
    reference: (B or 1, 3, H, W) in [0, 1]
    mode:      adain moves each channel's mean and deviation (follows a global shift), wavelet
               replaces everything coarse (follows local shifts too), none returns the image
    strength:  0 returns the image, 1 the full correction
    returns    (B, 3, H, W) in [0, 1]
    """
    check_mode(mode)
    if mode == "none" or strength == 0:
        return image
    if image.shape[2:] != reference.shape[2:]:
        raise InputError(
            f"colours of a {reference.shape[3]}x{reference.shape[2]} picture cannot be matched to "
            f"{image.shape[3]}x{image.shape[2]}; resize one of them first"
        )
    if reference.shape[0] not in (1, image.shape[0]):
        raise InputError(
            f"reference holds {reference.shape[0]} pictures, image {image.shape[0]}; as many, or "
            "one for all, are expected"
        )
    fixed = (adain if mode == "adain" else wavelet)(image, reference)
    return torch.lerp(image, fixed, strength).clamp(0, 1)


def _statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (unbiased) of each channel: two of (B, C, 1, 1)."""
    variance, mean = torch.var_mean(image, dim=(2, 3), keepdim=True)
    return mean, (variance + VARIANCE_FLOOR).sqrt()
