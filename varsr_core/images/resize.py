"""Antialiased bicubic resizing, the one kernel that every enlarging and shrinking here uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic resize to (height, width), clamped to [0, 1].

    Runs on the CPU, because MPS lacks it and other devices round differently.
    """
    return bicubic(image.float().cpu(), height, width).clamp_(0, 1).to(image.device)


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
