"""What a picture takes from another one, which may have another size, alpha, or no colour."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .alpha import enlarge_alpha, with_alpha
from .check import check_pixels
from .color_fix import ColorMode, match_colors
from .fidelity import keep
from .resize import resize
from .seen import alpha_of, is_grey, seen_colors


def match_image_colors(
    image: Tensor, reference: Tensor, mode: ColorMode, strength: float = 1.0
) -> Tensor:
    """`match_colors` for pictures with alpha or grey, and a reference of another size.

    image, reference: (B, C, H, W); alpha of `image` passes through, and weighs the pixels of both;
                      that of `reference` does where `image` has none. A grey reference leaves no
                      colour
    Raises InputError for what is no picture.
    """
    pair = _pair(image, reference)
    grey = [is_grey(one) for one in reference.split(1)]
    matched = match_colors(pair.rgb, pair.reference, mode, strength, pair.weight, grey)
    return with_alpha(matched, pair.alpha)


def keep_of_image(image: Tensor, reference: Tensor, fidelity: float) -> Tensor:
    """`keep` for the same pictures: `reference` is plainly resized to the size of `image`.

    Raises InputError for what is no picture.
    """
    pair = _pair(image, reference)
    return with_alpha(keep(pair.rgb, pair.reference, fidelity, pair.weight), pair.alpha)


class _Pair(NamedTuple):
    """rgb, reference: (B or 1, 3, H, W); alpha: of the image; weight: of the pixels of both."""

    rgb: Tensor
    reference: Tensor
    alpha: Tensor | None
    weight: Tensor | None


def _pair(image: Tensor, reference: Tensor) -> _Pair:
    check_pixels(image, "image")
    check_pixels(reference, "reference")
    size, alpha = image.shape[2:], alpha_of(image)
    weight = alpha_of(reference) if alpha is None else alpha
    if alpha is None and weight is not None:
        weight = enlarge_alpha(weight, *size)
    rgb = image[:, :3].expand(-1, 3, -1, -1)
    return _Pair(rgb, resize(seen_colors(reference), *size).expand(-1, 3, -1, -1), alpha, weight)
