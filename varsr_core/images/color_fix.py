"""Gives a restored picture the colours of the picture it was made from (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .cielab import to_lab, to_lightness, to_rgb
from .seen import LEAST_WEIGHT, opacity, without_color

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
    image: Tensor,
    reference: Tensor,
    mode: str = "adain",
    strength: float = 1.0,
    alpha: Tensor | None = None,
    grey: Sequence[bool] = (False,),
) -> Tensor:
    """Colours of `reference` on the picture `image`; statistics per picture, never per tile.

    image:     (B, 3, H, W) in [0, 1]
    reference: (B or 1, 3, H, W) in [0, 1]
    mode:      adain moves each channel's mean and deviation (follows a global shift), wavelet
               replaces everything coarse (follows local shifts too), lab does the first to L* and
               the second to a* and b* of CIELAB, none returns the image
    strength:  0 returns the image, 1 the full correction
    alpha:     (B or 1, 1, H, W): how much a pixel of both counts, or None for all alike
    grey:      for each reference, or for all, whether the full correction leaves no colour
    returns    (B, 3, H, W) in [0, 1]
    Memory beside these is that of a few strips, whatever the height and the batch.
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
    alphas = [None] if alpha is None else [opacity(one) for one in alpha.split(1)]
    result = image.new_empty(image.shape)
    for index, one in enumerate(image.split(1)):
        pair, weight = references[index % len(references)], alphas[index % len(alphas)]
        matching = _Matching(one, pair, weight, grey[index % len(grey)], mode)
        for strip in strips(*one.shape[2:]):
            fixed = torch.lerp(one[:, :, strip.rows], matching.fixed(strip), strength)
            result[index, :, strip.rows] = fixed[0].clamp_(0, 1)
    return result


def low_band(image: Tensor) -> Tensor:
    """(B, C, H, W) blurred five times with the dilated kernel [1 2 1] x [1 2 1] / 16."""
    for level in range(WAVELET_LEVELS):
        image = blur_level(image, level)
    return image


def blur_level(image: Tensor, level: int) -> Tensor:
    """(B, C, H, W) blurred with [1 2 1] x [1 2 1] / 16, whose taps are 2**level pixels apart."""
    radius = 2**level
    for dim, pads in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        length = image.shape[dim]
        padded = F.pad(image, pads, mode="replicate")
        before, middle, after = (padded.narrow(dim, k * radius, length) for k in range(3))
        image = (before + after).add_(middle, alpha=2).div_(4)
    return image


def measure(image: Tensor, mode: str, weight: Tensor | None = None, grey: bool = False) -> Moments:
    """What `mode` moves as a whole: RGB, L* / 100 or (wavelet) nothing, of (1, 3, H, W).

    weight: (1, 1, H, W) of the pixels; grey: measures the picture without its colour

    Strips are merged pairwise (Chan, Golub and LeVeque 1983), which loses no digits to a sum of
    squares that is large beside the variance.
    """
    if mode == "wavelet":
        return Moments(torch.zeros(1), torch.ones(1))
    pixels, mean, squares = 0, torch.zeros(1), torch.zeros(1)
    for strip in strips(*image.shape[2:]):
        part = _rows(image, strip.rows, grey)
        part = to_lightness(part) / 100 if mode == "lab" else part
        if weight is None:
            count = part.shape[2] * part.shape[3]
            found = torch.var_mean(part, dim=(2, 3), keepdim=True, correction=0)
        else:
            # Sums depend on how pixels lie in memory, and hosts lay them out in their own way.
            share = weight[:, :, strip.rows].to(part).contiguous()
            count = float(share.sum())
            if count == 0:
                continue
            found = _weighed_moments(part.contiguous(), share / count)
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


class _Matching:
    """One picture and its reference, (1, 3, H, W) each, measured."""

    def __init__(
        self, image: Tensor, reference: Tensor, weight: Tensor | None, grey: bool, mode: str
    ) -> None:
        self.image, self.reference, self.weight = image, reference, weight
        self.grey, self.mode = grey, mode
        self.found = measure(image, mode, weight, self.grey)
        self.wanted = measure(reference, mode, weight)

    def fixed(self, strip: Strip) -> Tensor:
        """(1, 3, rows, W), the corrected rows; values may leave [0, 1]."""
        if self.mode == "adain":
            return self._move(_rows(self.image, strip.rows, self.grey))
        image = _rows(self.image, strip.around, self.grey)
        reference = self.reference[:, :, strip.around]
        if self.mode == "wavelet":
            # The low band is linear: detail of one on the low band of the other takes one blur.
            return (image + self._low_band(reference - image, strip))[:, :, strip.inner]
        lab = to_lab(image)
        band = self._low_band(to_lab(reference)[:, 1:] - lab[:, 1:], strip)
        lab = lab[:, :, strip.inner]
        lightness = 100 * self._move(lab[:, :1] / 100)
        rgb = to_rgb(torch.cat((lightness, lab[:, 1:] + band[:, :, strip.inner]), dim=1))
        return without_color(rgb) if self.grey else rgb

    def _low_band(self, difference: Tensor, strip: Strip) -> Tensor:
        if self.weight is None:
            return low_band(difference)
        weight = self.weight[:, :, strip.around].to(difference)
        return low_band(difference * weight) / low_band(weight).clamp(min=LEAST_WEIGHT)

    def _move(self, values: Tensor) -> Tensor:
        gain = self.wanted.deviation / self.found.deviation
        offset = self.wanted.mean - self.found.mean * gain
        return (values * gain.to(values)).add_(offset.to(values))


def _rows(image: Tensor, rows: slice, grey: bool) -> Tensor:
    return without_color(image[:, :, rows]) if grey else image[:, :, rows]


def _weighed_moments(values: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean of each channel; share: of each pixel, 1 in all"""
    mean = (values * share).sum(dim=(2, 3), keepdim=True)
    return ((values - mean).square() * share).sum(dim=(2, 3), keepdim=True), mean
