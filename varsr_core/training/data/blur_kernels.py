"""The blur kernels of Real-ESRGAN (Wang et al., 2021, arXiv 2107.10833, sections 3.1 and 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BLUR_KINDS = (
    "iso",
    "aniso",
    "generalized_iso",
    "generalized_aniso",
    "plateau_iso",
    "plateau_aniso",
)


@dataclass(frozen=True)
class BlurRecipe:
    """One kernel, drawn but not made.

    kind:             one of BLUR_KINDS, or "sinc"
    size:             side in pixels, odd
    sigma_x, sigma_y: deviation along the first and second axis in pixels, before rotation
    angle:            from the x axis (right) towards the y axis (down), in radians
    beta:             shape of generalized and plateau kernels; a larger one is steeper at the rim
    cutoff:           of a sinc kernel, in radians per pixel; pi is the Nyquist frequency
    """

    kind: str
    size: int
    sigma_x: float = 1.0
    sigma_y: float = 1.0
    angle: float = 0.0
    beta: float = 1.0
    cutoff: float = math.pi

    def kernel(self) -> Tensor:
        """(size, size) float32 on the CPU; its sum is 1."""
        if self.kind == "sinc":
            kernel = sinc_kernel(self.size, self.cutoff)
        else:
            distance = squared_distance(self.size, self.sigma_x, self.sigma_y, self.angle)
            if self.kind.startswith("plateau"):
                kernel = 1 / (1 + distance**self.beta)
            else:
                kernel = (-0.5 * distance**self.beta).exp()
        return (kernel / kernel.sum()).float()


def pixel_grid(size: int) -> tuple[Tensor, Tensor]:
    """x and y of each pixel, 0 at the centre: two of (size, size) float64."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def squared_distance(size: int, sigma_x: float, sigma_y: float, angle: float) -> Tensor:
    """Squared distance from the centre in deviations of a rotated Gaussian: (size, size)."""
    x, y = pixel_grid(size)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    return (along / sigma_x) ** 2 + (across / sigma_y) ** 2


def sinc_kernel(size: int, cutoff: float) -> Tensor:
    """Ideal circular low-pass filter, cut to (size, size): rings and overshoots at edges.

    Its value at distance r is cutoff * J1(cutoff * r) / (2 * pi * r), equation 6 of the paper.
    """
    x, y = pixel_grid(size)
    radius = torch.hypot(x, y)
    middle = size // 2
    radius[middle, middle] = 1.0
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[middle, middle] = cutoff**2 / (4 * math.pi)  # the limit for r to 0
    return kernel
