"""Masks: where a picture is restored, and how the effect fades in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .check import check_tensor

FADE_LEVELS = 16  # steps in which a mask fades in; finer ones would not be seen


def check_mask(mask: Tensor, images: int, name: str = "mask") -> None:
    """Refuses what is no mask for so many pictures: (B or 1, 1, h, w) in [0, 1]."""
    check_tensor(mask, name, "(B, 1, h, w)", real=False)
    if mask.shape[1] != 1 or mask.numel() == 0:
        raise InputError(
            f"{name} has shape {tuple(mask.shape)}; (B, 1, h, w) is expected, at least one mask of "
            "at least one pixel. Check where it is from."
        )
    if len(mask) not in (1, images):
        raise InputError(
            f"{name} holds {len(mask)} masks for {images} pictures; as many, or one for all, are "
            "expected"
        )
    low, high = mask.aminmax()
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise InputError(f"{name} has values from {low:.3g} to {high:.3g}; 0 to 1 is expected")


def feathered(mask: Tensor, height: int, width: int, feather: int) -> Tensor:
    """A mask at the output size, whose edges fade inwards, so that nothing outside it changes.

    The mean of the mask and of what is left of it when its edge is moved in, more and more.

    mask:    (B, 1, h, w) in [0, 1]
    feather: pixels of the output from the edge to full effect; 0 keeps the edge as it is
    returns  (B, 1, height, width) in [0, 1]
    """
    mask = F.interpolate(mask.float(), (height, width), mode="bilinear", align_corners=False)
    levels = min(feather, FADE_LEVELS)
    faded, left, radius = mask.clone(), mask, 0
    for level in range(1, levels + 1):
        further = round(feather * level / levels)
        left, radius = _eroded(left, further - radius), further
        faded += left
    return torch.minimum(faded.div_(levels + 1), mask)  # the mean of equal numbers may be larger


def blend_inside(restored: Tensor, plain: Tensor, mask: Tensor) -> Tensor:
    """`restored` where the mask is 1, `plain` where it is 0; both (B, 3, H, W)."""
    return torch.lerp(plain, restored, mask.to(plain))


def _eroded(mask: Tensor, radius: int) -> Tensor:
    """The least value within `radius` pixels, of those inside the picture."""
    inverse = -mask
    for window, size in (((radius, 0), mask.shape[2]), ((0, radius), mask.shape[3])):
        reach = [min(r, size - 1) for r in window]
        kernel = [2 * r + 1 for r in reach]
        inverse = -F.pad(-inverse, (reach[1],) * 2 + (reach[0],) * 2, value=torch.inf)
        inverse = F.max_pool2d(inverse, kernel, stride=1)
    return -inverse
