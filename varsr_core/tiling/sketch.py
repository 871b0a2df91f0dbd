"""What latents show, by a linear map that is fitted to the very picture they restore.

A latent holds a cell's colours mixed with all else it must say, in a way of its own for each model.
But what it shows is known, coarsely: the picture that is restored. So the map is the one that comes
closest to that picture, by least squares over the latents so far. It costs less than any network,
knows a model's colours from its first scale on, and shows nothing that latents do not hold: of few
scales, few dozens of numbers, it can make no more than a few dozen patches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 0.03  # of the latents' mean square: little is made of what hardly differs between cells
FITTED_PLACES = 4096  # more make the fit no better, only slower
TINY = 1e-30  # of a mean square that is 0

SketchFn = Callable[[Tensor], Tensor]
"""(N, C, S, S) -> (N, 3, S * d, S * d) in [0, 1], d the pixels that were fitted along a cell."""


def fit_sketch(latents: Tensor, pictures: Tensor) -> SketchFn:
    """The map from latents, (N, C, S, S) float32, to what they restore, (N, 3, S * d, S * d).

    Two maps, in fact: one of the latents enlarged smoothly, for colours; then one that gives each
    cell its detail. One alone would be blurred, or made of blocks.
    """
    density = pictures.shape[2] // latents.shape[2]
    smooth = _enlarged(latents, density)
    color = _Linear.fit(smooth, pictures)
    mean = latents.mean(dim=(0, 2, 3), keepdim=True)
    missing = F.pixel_unshuffle(pictures - color(smooth), density)
    detail = _Linear.fit(latents - mean, missing, constant=False)

    def sketch(latents: Tensor) -> Tensor:
        smooth = color(_enlarged(latents, density))
        return (smooth + F.pixel_shuffle(detail(latents - mean), density)).clamp(0, 1)

    return sketch


def _enlarged(latents: Tensor, density: int) -> Tensor:
    if density == 1:
        return latents
    return F.interpolate(latents, scale_factor=density, mode="bilinear", align_corners=False)


class _Linear:
    """The same affine map at every place. weight: (outputs, inputs); bias: (outputs,)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)

    @staticmethod
    def fit(x: Tensor, y: Tensor, *, constant: bool = True) -> _Linear:
        """From (N, inputs, H, W) to (N, outputs, H, W); constant: whether it may add one."""
        step = 1
        while x[:, 0].numel() > FITTED_PLACES * step**2:
            step += 2  # odd, so that no pixel of a cell is left out everywhere
        places = (..., slice(None, None, step), slice(None, None, step))
        x, y = (values[places].movedim(1, -1).flatten(0, 2).double() for values in (x, y))
        ridge = RIDGE * x.square().mean().clamp(min=TINY) * len(x)
        if constant:
            x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
        else:
            x_mean, y_mean = x.new_zeros(x.shape[1]), y.new_zeros(y.shape[1])
        x, y = x - x_mean, y - y_mean
        squares = x.T @ x
        squares.diagonal().add_(ridge)
        weight = torch.linalg.solve(squares, x.T @ y).T
        return _Linear(weight.float(), (y_mean - weight @ x_mean).float())
