"""Enlarges transparency: edges as steep as the picture's, flat areas flat, soft ones soft."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from .resize import bicubic

# Chosen by experiment on shapes of known truth (disc, text, hair, blurred shapes, fog; 1.25x to
# 4x). Twelve rounds leave 5 % less error on text than eight for half as much time again; with more
# memory hard edges gain, but edges that are blurred in truth get too steep.
ROUNDS = 8
MEMORY = 0.7  # share of the last correction that is made again: better than 24 rounds without


def enlarge_alpha(alpha: Tensor, height: int, width: int) -> Tensor:
    """Transparency at another size, as the coverage of the smaller pixels.

    Iterative back-projection (Irani and Peleg, "Improving resolution by image registration",
    1991): the enlarged alpha is shrunk again, and what it lacks of the given one is enlarged and
    added. Each pixel stays between the least and the greatest of those that bicubic looks at, so
    nothing overshoots, and flat areas keep their exact value. Sides that shrink are resized first,
    antialiased, and need no back-projection.

    alpha:   (B, 1, h, w) in [0, 1], of any dtype, on any device
    returns  (B, 1, height, width) in [0, 1], float32, on the same device; worked out on the CPU
             with 5 copies of the output at 2x or more, 6.5 near 1x

    Raises InputError for another shape and for sides below 1 pixel.
    """
    _check(alpha, height, width)
    alpha, device = alpha.float(), alpha.device
    if alpha.shape[2:] == (height, width):
        return alpha
    alpha = alpha.cpu()
    rows, columns = alpha.shape[2:]
    alpha = _resize_within_envelope(alpha, min(rows, height), min(columns, width))
    return _back_project(alpha, height, width).clamp_(0, 1).to(device)


def with_alpha(rgb: Tensor, alpha: Tensor | None) -> Tensor:
    """(B, 3, H, W), with the alpha (B, 1, H, W) behind it if there is one."""
    return rgb if alpha is None else torch.cat((rgb, alpha.to(rgb)), dim=1)


def _check(alpha: Tensor, height: int, width: int) -> None:
    if alpha.ndim != 4 or alpha.shape[1] != 1 or alpha.numel() == 0:
        raise InputError(
            f"alpha has the shape {tuple(alpha.shape)}; (B, 1, height, width) with at least one "
            "pixel is expected. Take the fourth channel of the picture."
        )
    if min(height, width) < 1:
        raise InputError(
            f"alpha cannot be resized to {width}x{height} pixels; sides of at least 1 are expected"
        )


def _resize_within_envelope(alpha: Tensor, height: int, width: int) -> Tensor:
    if alpha.shape[2:] == (height, width):
        return alpha
    return bicubic(alpha, height, width).clamp_(*_envelope(alpha, height, width))


def _back_project(alpha: Tensor, height: int, width: int) -> Tensor:
    """alpha: (B, 1, h, w), at most as large as the result in both directions."""
    if alpha.shape[2:] == (height, width):
        return alpha
    rows, columns = alpha.shape[2:]
    low, high = _envelope(alpha, height, width)
    result = bicubic(alpha, height, width).clamp_(low, high)
    correction = torch.zeros_like(alpha)
    for _ in range(ROUNDS):
        # The memory is kept small, not enlarged: enlarging is linear, the result is the same.
        shrunk = _average(_average(result, 2, rows), 3, columns)
        correction.mul_(MEMORY).add_(alpha).sub_(shrunk)
        del shrunk  # as large as the result when sizes are nearly the same
        result.add_(bicubic(correction, height, width)).clamp_(low, high)
    return result


def _average(image: Tensor, dim: int, length: int) -> Tensor:
    """Shrinks one dimension by the exact mean of what each pixel covers.

    torch's "area" takes whole pixels only: at 1.5x it averages pairs that overlap.
    """
    before = image.shape[dim]
    if before == length:
        return image
    # In units in which a pixel is `length` wide before and `before` wide after.
    start = torch.arange(length) * before
    first = start // length
    total = torch.zeros(*image.shape[:dim], length, *image.shape[dim + 1 :])
    for tap in range(int((-(-(start + before) // length) - first).max())):
        index = first + tap
        right = torch.minimum((index + 1) * length, start + before)
        weight = (right - torch.maximum(index * length, start)).clamp(min=0) / before
        weight = weight.view(-1, *[1] * (image.ndim - dim - 1))
        total.addcmul_(image.index_select(dim, index.clamp(max=before - 1)), weight)
    return total


def _envelope(image: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Least and greatest of the pixels that `bicubic` weighs: two of (B, 1, height, width)."""
    low = high = image
    for dim, length in ((3, width), (2, height)):
        if image.shape[dim] != length:
            indices = _bicubic_taps(image.shape[dim], length)
            low = _fold(torch.minimum, low, dim, indices)
            high = _fold(torch.maximum, high, dim, indices)
    return low, high


def _fold(combine: Callable[..., Tensor], image: Tensor, dim: int, indices: list[Tensor]) -> Tensor:
    result = image.index_select(dim, indices[0])
    for index in indices[1:]:
        combine(result, image.index_select(dim, index), out=result)
    return result


def _bicubic_taps(before: int, after: int) -> list[Tensor]:
    """Indices of the pixels nearer than two of the wider pixels to each new one's centre.

    Whole numbers only, because a pixel at exactly that distance has no weight, and taking it on
    one side but not on the other would make the result depend on the direction.

    returns  one tensor (after,) for each tap; shorter neighbourhoods repeat their last pixel
    """
    # Distances in units of 1 / (2 * after) of an old pixel.
    centre = (2 * torch.arange(after) + 1) * before - after
    radius = 4 * max(before, after)
    first = (centre - radius) // (2 * after) + 1
    last = -((-centre - radius) // (2 * after)) - 1
    taps = int((last - first).max()) + 1
    return [torch.minimum(first + tap, last).clamp(0, before - 1) for tap in range(taps)]
