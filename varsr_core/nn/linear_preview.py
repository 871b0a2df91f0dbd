"""What a latent shows, cheaply: each cell gives a few pixels, by one linear map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tiling.noise import derive_seed
from ..tiling.preview import DENSITY, GREY
from .least_squares import LeastSquares

FITTED_SIDE = 256  # of the pictures that a map is fitted to
FITTED_PICTURES = 2
RIDGE = 1e-5  # of the mean square of the latent


@dataclass(frozen=True)
class LinearPreview:
    """A PreviewFn. weight: (3 * DENSITY**2, C); bias: (3 * DENSITY**2,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, latent: Tensor) -> Tensor:
        pixels = F.conv2d(latent, self.weight[:, :, None, None], self.bias)
        return F.pixel_shuffle(pixels, DENSITY).clamp(0, 1)


def fit_preview(encode: Callable[[Tensor], Tensor], device: torch.device) -> LinearPreview:
    """The map that best undoes `encode`, on pictures of smooth colours and edges made up here.

    encode: (N, 3, FITTED_SIDE, FITTED_SIDE) in [0, 1] -> (N, C, S, S), on `device`
    """
    pictures = _made_up_pictures()
    latent = encode(pictures.to(device)).float().cpu()
    pixels = F.adaptive_avg_pool2d(pictures, latent.shape[-1] * DENSITY)
    wanted = F.pixel_unshuffle(pixels, DENSITY)
    squares = LeastSquares(latent.shape[1], wanted.shape[1], ridge=RIDGE)
    squares.add(*(cells.movedim(1, -1).flatten(0, 2) for cells in (latent, wanted)))
    return LinearPreview(*squares.solve())


def _made_up_pictures() -> Tensor:
    """Colour noise of all sizes, half of it cut into flat areas."""
    generator = torch.Generator().manual_seed(derive_seed(0, "sketch"))
    total = torch.zeros(FITTED_PICTURES, 3, FITTED_SIDE, FITTED_SIDE)
    side = 2
    while side <= FITTED_SIDE // 4:
        drawn = torch.randn(FITTED_PICTURES, 3, side, side, generator=generator) / side**0.5
        total += F.interpolate(drawn, FITTED_SIDE, mode="bicubic", align_corners=False)
        side *= 2
    total[1::2] = (total[1::2] * 2).round() / 2
    return (GREY + total / 4).clamp(0, 1)
