"""Antialiased bicubic resampling, the one kernel that every enlarging and shrinking here uses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bicubic(image: Tensor, height: int, width: int) -> Tensor:
    """(B, C, h, w) float32 on the CPU -> (B, C, height, width); overshoots its range a little.

    The kernel is PIL's (a = -0.5), which the models were trained with; unlike PIL there is no
    rounding to 8 bits.
    """
    if width == 1:
        # torch 2.13 resizes columns of one pixel wrongly when it antialiases; two alike are right.
        narrow = _interpolate(image, image.shape[2], 1)
        return _interpolate(narrow.expand(-1, -1, -1, 2), height, 2)[..., :1]
    return _interpolate(image, height, width)


def _interpolate(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(
        image, (height, width), mode="bicubic", align_corners=False, antialias=True
    )
