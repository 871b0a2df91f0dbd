"""How far a decoded picture is from the one it should be: pixels, edges, features."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

Features = Callable[[Tensor], list[Tensor]]
"""(N, 3, H, W) in [0, 1] -> feature maps to be matched beside pixels."""

PYRAMID_LEVELS = 4


def picture_loss(
    decoded: Tensor, pictures: Tensor, features: Features | None
) -> tuple[Tensor, Tensor]:
    """Scalars: mean absolute difference of pixels, and a loss nearer to what eyes see."""
    perceptual = pyramid_loss(decoded, pictures)
    if features is not None:
        perceptual = perceptual + feature_loss(features(decoded), features(pictures))
    return F.l1_loss(decoded, pictures), perceptual


def feature_loss(decoded: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """L1 between the feature maps of two pictures, summed."""
    losses = (F.l1_loss(a, b.detach()) for a, b in zip(decoded, wanted, strict=True))
    return reduce(torch.add, losses)


def pyramid_loss(a: Tensor, b: Tensor) -> Tensor:
    """L1 of the bands of a Laplacian pyramid: edges and texture weigh as much as flat areas."""
    loss = a.new_zeros(())
    for _ in range(PYRAMID_LEVELS):
        if min(a.shape[2:]) < 2:
            break
        small_a, small_b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        size = a.shape[2:]
        band = (a - b) - F.interpolate(small_a - small_b, size, mode="bilinear")
        loss = loss + band.abs().mean()
        a, b = small_a, small_b
    return loss
