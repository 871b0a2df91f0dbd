"""How much of the picture before it a restored one keeps, coarse before fine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from .color_fix import WAVELET_LEVELS, blur_level, strips
from .seen import LEAST_WEIGHT, opacity

BANDS = WAVELET_LEVELS + 1


def check_fidelity(value: float, name: str = "fidelity") -> None:
    """Raises InputError unless 0 to 1."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}; 0 to 1 is expected")


def keep(image: Tensor, plain: Tensor, fidelity: float, alpha: Tensor | None = None) -> Tensor:
    """A restored picture brought towards the plain enlargement of its input, by bands of detail.

    What both differ by is split by the five blurs of the wavelet colour fix: structures above some
    64 pixels, then 32, 16, ... and below 4. As `fidelity` grows from 0 to 1 the bands give way one
    after the other, coarse ones first. The sum of what is left never has more of any frequency than
    before, so the distance to `plain` never grows.

    image:    (B, 3, H, W) in [0, 1]
    plain:    (B or 1, 3, H, W) in [0, 1]
    fidelity: 0 returns the image, 1 the plain one
    alpha:    (B or 1, 1, H, W): how much a pixel counts, or None for all alike
    returns   (B, 3, H, W) in [0, 1]
    Memory beside these is that of a few strips.
    """
    check_fidelity(fidelity)
    if fidelity == 0:
        return image
    if image.shape[2:] != plain.shape[2:] or plain.shape[0] not in (1, image.shape[0]):
        raise InputError(
            f"fidelity compares {tuple(image.shape)} with {tuple(plain.shape)}; pictures of one "
            "size are expected, as many or one for all"
        )
    plains = plain.split(1)
    alphas = [None] if alpha is None else [opacity(one) for one in alpha.split(1)]
    shares = band_shares(fidelity)
    result = torch.empty_like(image)
    for index, one in enumerate(image.split(1)):
        other, weight = plains[index % len(plains)], alphas[index % len(alphas)]
        for strip in strips(*one.shape[2:]):
            part = None if weight is None else weight[:, :, strip.around]
            away = other[:, :, strip.around] - one[:, :, strip.around]
            kept = _weighed_bands(away, part, shares)[:, :, strip.inner]
            result[index, :, strip.rows] = (one[:, :, strip.rows] + kept)[0].clamp_(0, 1)
    return result


def band_shares(fidelity: float) -> list[float]:
    """How much of each band is taken from the plain picture, from the coarsest to the finest."""
    return [min(max(fidelity * BANDS - band, 0.0), 1.0) for band in range(BANDS)]


def _weighed_bands(values: Tensor, weight: Tensor | None, shares: Sequence[float]) -> Tensor:
    """The sum of the bands of `values`, each by its share; all of them with shares of 1.

    With shares s0 >= s1 >= ... of bands from coarse to fine, this is s5 of the whole and of each
    blur what the bands coarser than it have more.
    """
    total = values * shares[-1]
    blurred = values if weight is None else values * weight.to(values)
    level_weight = weight if weight is None else weight.to(values)
    for level in range(WAVELET_LEVELS):
        blurred = blur_level(blurred, level)
        more = shares[-2 - level] - shares[-1 - level]
        if level_weight is None:
            total.add_(blurred, alpha=more)
        else:
            level_weight = blur_level(level_weight, level)
            total.add_(blurred / level_weight.clamp(min=LEAST_WEIGHT), alpha=more)
    return total
