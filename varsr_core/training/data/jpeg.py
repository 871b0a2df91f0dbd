"""JPEG's losses without its bits: what a baseline encoder and decoder do to a picture.

Follows ITU-T T.81 (tables of annex K) and JFIF, with the choices of libjpeg that all common
software shares: 4:2:0 chroma, tables scaled by quality, chroma enlarged by a triangle filter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

BLOCK = 8
TIE_TOLERANCE = 1e-4  # mean levels of blocks fall on halves often
LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
TO_RGB = (
    (1.0, 0.0, 1.402),
    (1.0, -0.344136286, -0.714136286),
    (1.0, 1.772, 0.0),
)


def jpeg(images: Tensor, quality: Sequence[int]) -> Tensor:
    """Pictures after being saved as JPEG and opened again.

    images:  (B, 3, H, W) RGB in [0, 1], any size
    quality: 1 to 100 for each picture, as in libjpeg
    returns  (B, 3, H, W), multiples of 1 / 255
    """
    height, width = images.shape[2:]
    levels = (images.clamp(0, 1) * 255).round()
    ycbcr = _mix(levels, TO_YCBCR).round()  # chroma centred on 0, as luma will be
    ycbcr = _pad_to(ycbcr, 2 * BLOCK)
    luma, chroma = ycbcr[:, :1] - 128, _halve(ycbcr[:, 1:])
    luma = _code(luma, _tables(LUMA_TABLE, quality)).add(128)
    chroma = _code(chroma, _tables(CHROMA_TABLE, quality))
    # Only what belongs to the picture: the decoder's filter does not see the padding either.
    chroma = chroma[:, :, : -(-height // 2), : -(-width // 2)]
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear").round()
    ycbcr = torch.cat((luma[..., :height, :width], chroma[..., :height, :width]), dim=1)
    return _mix(ycbcr, TO_RGB).clamp(0, 255).round() / 255


def quantization_table(base: Sequence[Sequence[int]], quality: int) -> Tensor:
    """An annex K table at a quality from 1 to 100, by libjpeg's rule: (8, 8), 1 to 255."""
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality {quality} is not within 1 to 100")
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = torch.tensor(base)
    return ((table * percent + 50) // 100).clamp(1, 255)


def dct_matrix() -> Tensor:
    """Orthonormal 8-point cosine transform, one basis vector per row: (8, 8) float32."""
    k = torch.arange(BLOCK, dtype=torch.float64)[:, None]
    n = torch.arange(BLOCK, dtype=torch.float64)
    matrix = torch.cos((2 * n + 1) * k * math.pi / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def _tables(base: Sequence[Sequence[int]], quality: Sequence[int]) -> Tensor:
    """(B, 1, 1, 1, 8, 8): broadcast over planes, rows and columns of blocks."""
    tables = torch.stack([quantization_table(base, value) for value in quality])
    return tables[:, None, None, None].float()


def _code(planes: Tensor, tables: Tensor) -> Tensor:
    """Quantizes the cosine transform of each block. planes: (B, C, H, W) in [-128, 127]."""
    dct, tables = dct_matrix().to(planes), tables.to(planes)
    blocks = rearrange(planes, "b c (h i) (w j) -> b c h w i j", i=BLOCK, j=BLOCK)
    coefficients = dct @ blocks @ dct.T
    coefficients = _quantize(coefficients / tables) * tables
    blocks = (dct.T @ coefficients @ dct).round().clamp(-128, 127)
    return rearrange(blocks, "b c h w i j -> b c (h i) (w j)")


def _quantize(values: Tensor) -> Tensor:
    """Whole numbers, halves away from 0; what float32 left just short of a half counts as one."""
    return (values.abs() + 0.5 + TIE_TOLERANCE).floor() * values.sign()


def _halve(planes: Tensor) -> Tensor:
    """Means of 2x2 whole numbers, rounded. Halves go down in even columns and up in odd ones."""
    means = F.avg_pool2d(planes, 2)
    bias = torch.tensor((0.25, 0.5)).repeat(means.shape[3] // 2)
    return (means + bias.to(means)).floor()


def _mix(images: Tensor, matrix: Sequence[Sequence[float]]) -> Tensor:
    """Applies a (3, 3) matrix to the channels of (B, 3, H, W)."""
    return torch.einsum("dc,bchw->bdhw", torch.tensor(matrix).to(images), images)


def _pad_to(images: Tensor, multiple: int) -> Tensor:
    """Repeats the right and bottom border up to the next multiple."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
