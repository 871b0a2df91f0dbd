"""Gives a restored picture the colours of the picture it was made from (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .cielab import to_lab, to_lightness, to_rgb

ColorMode = Literal["adain", "wavelet", "lab", "none"]
COLOR_MODES: tuple[str, ...] = get_args(ColorMode)

WAVELET_LEVELS = 5
HALO = 2**WAVELET_LEVELS - 1  # rows above and below that the low band of a row depends on
VARIANCE_FLOOR = 1e-5
STRIP_PIXELS = 2**20  # pictures are worked on in strips of about so many pixels, to bound memory


class Strip(NamedTuple):
    """Some rows of a picture; small pictures are one strip."""

    rows: slice
    around: slice  # the rows and their halo, as far as the picture reaches
    inner: slice  # the rows, counted within `around`


class Moments(NamedTuple):
    """Of each channel of one picture, (1, C, 1, 1) each, float64 on the CPU."""

    mean: Tensor
    deviation: Tensor


def check_mode(mode: str) -> None:
    """Refuses an unknown colour mode. Raises InputError."""
    if mode not in COLOR_MODES:
        raise InputError(f"colour mode {mode!r} is none of {', '.join(COLOR_MODES)}")


def match_colors(
    image: Tensor, reference: Tensor, mode: ColorMode = "adain", strength: float = 1.0
) -> Tensor:
    """Colours of `reference` on the picture `image`; statistics per picture, never per tile.

    image:     (B, 3, H, W) in [0, 1]
    reference: (B or 1, 3, H, W) in [0, 1]
    mode:      adain moves each channel's mean and deviation (follows a global shift), wavelet
               replaces everything coarse (follows local shifts too), lab does the first to L* and
               the second to a* and b* of CIELAB, none returns the image
    strength:  0 returns the image, 1 the full correction
    returns    (B, 3, H, W) in [0, 1]
    Memory beside these three is that of a few strips, whatever the height and the batch.
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
    references = reference.split(1)
    wanted = [measure(one, mode) for one in references]
    result = image.new_empty(image.shape)
    for index, one in enumerate(image.split(1)):
        pair = index % len(references)
        found = measure(one, mode)
        for strip in strips(*one.shape[2:]):
            fixed = _fix(one, references[pair], mode, strip, found, wanted[pair])
            fixed = torch.lerp(one[:, :, strip.rows], fixed, strength)
            result[index, :, strip.rows] = fixed[0].clamp_(0, 1)
    return result


def low_band(image: Tensor) -> Tensor:
    """(B, C, H, W) blurred five times with the dilated kernel [1 2 1] x [1 2 1] / 16."""
    for level in range(WAVELET_LEVELS):
        radius = 2**level
        for dim, pads in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
            length = image.shape[dim]
            padded = F.pad(image, pads, mode="replicate")
            before, middle, after = (padded.narrow(dim, k * radius, length) for k in range(3))
            image = (before + after).add_(middle, alpha=2).div_(4)
    return image


def measure(image: Tensor, mode: str) -> Moments:
    """What `mode` moves as a whole: RGB, L* / 100 or (wavelet) nothing, of (1, 3, H, W).

    Strips are merged pairwise (Chan, Golub and LeVeque 1983), which loses no digits to a sum of
    squares that is large beside the variance.
    """
    if mode == "wavelet":
        return Moments(torch.zeros(1), torch.ones(1))
    pixels, mean, squares = 0, torch.zeros(1), torch.zeros(1)
    for strip in strips(*image.shape[2:]):
        part = image[:, :, strip.rows]
        part = to_lightness(part) / 100 if mode == "lab" else part
        count = part.shape[2] * part.shape[3]
        found = torch.var_mean(part, dim=(2, 3), keepdim=True, correction=0)
        variance, part_mean = (value.cpu().double() for value in found)
        total = pixels + count
        away = part_mean - mean
        mean = mean + away * (count / total)
        squares = squares + variance * count + away**2 * (pixels * count / total)
        pixels = total
    variance = squares / max(pixels - 1, 1)
    return Moments(mean, (variance + VARIANCE_FLOOR).sqrt())


def strips(height: int, width: int) -> Iterator[Strip]:
    """Rows of a picture from top to bottom, `STRIP_PIXELS` at a time, at least one row."""
    step = max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        first = max(0, top - HALO)
        yield Strip(
            rows=slice(top, bottom),
            around=slice(first, min(bottom + HALO, height)),
            inner=slice(top - first, bottom - first),
        )


def _fix(
    image: Tensor,
    reference: Tensor,
    mode: str,
    strip: Strip,
    found: Moments,
    wanted: Moments,
) -> Tensor:
    """(1, 3, rows, W), the corrected rows of one picture; values may leave [0, 1]."""
    if mode == "adain":
        return _move(image[:, :, strip.rows], found, wanted)
    image, reference = image[:, :, strip.around], reference[:, :, strip.around]
    if mode == "wavelet":
        # The low band is linear: detail of one on the low band of the other takes one blur.
        return (image + low_band(reference - image))[:, :, strip.inner]
    lab = to_lab(image)
    band = low_band(to_lab(reference)[:, 1:] - lab[:, 1:])
    lab = lab[:, :, strip.inner]
    lightness = 100 * _move(lab[:, :1] / 100, found, wanted)
    return to_rgb(torch.cat((lightness, lab[:, 1:] + band[:, :, strip.inner]), dim=1))


def _move(values: Tensor, found: Moments, wanted: Moments) -> Tensor:
    gain = wanted.deviation / found.deviation
    offset = wanted.mean - found.mean * gain
    return (values * gain.to(values)).add_(offset.to(values))
