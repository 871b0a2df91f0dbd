"""sRGB to CIELAB and back: transfer curve and primaries of IEC 61966-2-1, CIELAB of CIE 15."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

Matrix = tuple[tuple[float, float, float], ...]

# Linear RGB to X/Xn, Y/Yn, Z/Zn, from the primaries of IEC 61966-2-1 and the D65 white of CIE 15
# (Xn 0.95047, Yn 1, Zn 1.08883). Rows sum to 1, so that greys have no chroma.
XYZ_FROM_RGB: Matrix = (
    (0.4339499817, 0.3762097464, 0.1898402719),
    (0.2126728514, 0.7151521553, 0.0721749933),
    (0.0177565787, 0.1094679848, 0.8727754365),
)
RGB_FROM_XYZ: Matrix = (
    (3.0799544675, -1.5371385128, -0.5428159547),
    (-0.9212582840, 1.8760108454, 0.0452474386),
    (0.0528874118, -0.2040259135, 1.1511385017),
)
KNEE = 6 / 29  # below it the cube root of CIE 15 goes on as a straight line


def to_lab(rgb: Tensor) -> Tensor:
    """(B, 3, H, W) sRGB in [0, 1] -> L* in [0, 100], a*, b*."""
    x, y, z = (_root(part) for part in _mix(_linear_channels(rgb), XYZ_FROM_RGB))
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def to_lightness(rgb: Tensor) -> Tensor:
    """(B, 3, H, W) sRGB in [0, 1] -> (B, 1, H, W), the L* of `to_lab` alone."""
    (y,) = _mix(_linear_channels(rgb), XYZ_FROM_RGB[1:2])
    return 116 * _root(y).unsqueeze(1) - 16


def to_rgb(lab: Tensor) -> Tensor:
    """Inverse of `to_lab`; finite, but outside [0, 1], for colours that sRGB lacks."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    xyz = [_power(part) for part in (y + a / 500, y, y - b / 200)]
    return torch.stack([_encode(part) for part in _mix(xyz, RGB_FROM_XYZ)], dim=1)


def _linear_channels(rgb: Tensor) -> list[Tensor]:
    # Channel by channel: what lies between takes a third of the memory.
    return [_decode(channel) for channel in rgb.unbind(1)]


def _mix(channels: Iterable[Tensor], matrix: Matrix) -> Iterator[Tensor]:
    """Weighted sums. Not a matrix product, which may run in TF32 and lose 13 of 23 bits."""
    first, second, third = channels
    for row in matrix:
        yield (first * row[0]).add_(second, alpha=row[1]).add_(third, alpha=row[2])


def _decode(value: Tensor) -> Tensor:
    curve = ((value + 0.055) / 1.055) ** 2.4
    return torch.where(value <= 0.04045, value / 12.92, curve)


def _encode(linear: Tensor) -> Tensor:
    # Roots of what is below nothing are NaN, and never taken.
    curve = 1.055 * linear ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curve)


def _root(share: Tensor) -> Tensor:
    curve = share ** (1 / 3)
    return torch.where(share <= KNEE**3, share / (3 * KNEE**2) + 4 / 29, curve)


def _power(root: Tensor) -> Tensor:
    return torch.where(root <= KNEE, 3 * KNEE**2 * (root - 4 / 29), root**3)
