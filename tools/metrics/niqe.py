"""NIQE: how far statistics of a picture are from those of good photographs. Less is better.

Mittal, Soundararajan and Bovik, "Making a 'completely blind' image quality analyzer", 2013. Luma is
divided by its local deviation; of what is left, in blocks of 96 pixels and once more at half the
size, 18 numbers each describe the distribution and that of neighbours' products. The distance is
between two Gaussians over these 36: the picture's and that of `niqe_pristine.safetensors`, whose
source and licence `niqe_pristine.txt` tells.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tools.metrics.case import LUMA, Case, Unmeasurable, colors, luma

PRISTINE = Path(__file__).with_name("niqe_pristine.safetensors")
BLOCK = 96  # pixels of the side
WINDOW, SIGMA = 7, 7 / 6
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rolled down and right, within a block
SHAPES = torch.arange(200, 10001, dtype=torch.float64) / 1000  # of a generalized Gaussian, tried


def niqe(case: Case) -> float:
    """With the half size by Pillow, as the scores in this project's model cards."""
    return _distance(luma(case.result).round(), _halved_by_pillow)


def niqe_matlab(case: Case) -> float:
    """With the half size as MATLAB's imresize makes it: as the authors' code and its ports do."""
    # In float32 as there: where luma is half a step, that decides which way it is rounded.
    weights = torch.tensor(LUMA) / 255
    values = torch.einsum("nchw,c->nhw", colors(case.result), weights) + torch.tensor(16.0) / 255
    return _distance((values * 255).round().double()[None], _halved_as_matlab)


def _distance(image: Tensor, halved: Callable[[Tensor], Tensor]) -> float:
    """image: (1, 1, H, W) of whole numbers, 16 to 235"""
    rows, columns = (side // BLOCK for side in image.shape[-2:])
    if rows * columns < 2:
        height, width = image.shape[-2:]
        raise Unmeasurable(
            f"NIQE compares blocks of {BLOCK} pixels, and {width}x{height} has not two"
        )
    image = image[..., : rows * BLOCK, : columns * BLOCK]
    features = [_features(_blocks(_normalized(image), BLOCK))]
    features.append(_features(_blocks(_normalized(halved(image)), BLOCK // 2)))
    values = torch.cat(features, 1).numpy()
    whole = values[~np.isnan(values).any(1)]  # a block without any detail has no distribution
    if len(whole) < 2:
        raise Unmeasurable("NIQE needs two blocks with detail in them")
    pristine = load_file(PRISTINE)
    away = pristine["mean"].numpy() - np.nanmean(values, 0)
    covariance = (pristine["covariance"].numpy() + np.cov(whole, rowvar=False)) / 2
    return float(np.sqrt(away @ np.linalg.pinv(covariance) @ away))


def _normalized(image: Tensor) -> Tensor:
    """(1, 1, H, W) less its local mean, over its local deviation."""
    offset = torch.arange(WINDOW, dtype=image.dtype) - WINDOW // 2
    squared = offset[:, None] ** 2 + offset**2
    window = torch.exp(-squared / (2 * SIGMA**2))
    window = (window / window.sum())[None, None]

    def local_mean(values: Tensor) -> Tensor:
        return F.conv2d(F.pad(values, (WINDOW // 2,) * 4, "replicate"), window)

    mean = local_mean(image)
    deviation = (local_mean(image**2) - mean**2).abs().sqrt()
    return (image - mean) / (deviation + 1)


def _blocks(values: Tensor, side: int) -> Tensor:
    """(N, side, side), column after column."""
    cut = values[0, 0].unfold(0, side, side).unfold(1, side, side)
    return cut.transpose(0, 1).reshape(-1, side, side)


def _features(blocks: Tensor) -> Tensor:
    """(N, 18)"""
    shape, left, right = _fitted(blocks)
    found = [shape, (left + right) / 2]
    for neighbour in NEIGHBOURS:
        shape, left, right = _fitted(blocks * blocks.roll(neighbour, (1, 2)))
        mean = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
        found += [shape, mean, left, right]
    return torch.stack(found, 1)


def _fitted(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape, left and right scale, each (N,), of the asymmetric generalized Gaussian of each block.

    By matching moments (Lasmar et al. 2009); NaN where a block has values of one sign only.
    """
    values = blocks.flatten(1)

    def deviation(those: Tensor) -> Tensor:
        return ((values**2 * those).sum(1) / those.sum(1)).sqrt()

    left, right = deviation(values < 0), deviation(values > 0)
    skew = left / right
    ratio = values.abs().mean(1) ** 2 / (values**2).mean(1)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    nearest = (_ratios() - ratio[:, None]).square().argmin(1)
    shape = SHAPES[nearest]
    scale = torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)
    return shape, left * scale, right * scale


@functools.cache
def _ratios() -> Tensor:
    """E|x|^2 / E x^2 of each of SHAPES."""
    log = [torch.lgamma(number / SHAPES) for number in (1, 2, 3)]
    return torch.exp(2 * log[1] - log[0] - log[2])


def _halved_by_pillow(image: Tensor) -> Tensor:
    """In [0, 255]. Pillow's filter ends at the edge, and its numbers are float32."""
    picture = Image.fromarray((image[0, 0] / 255).numpy().astype(np.float32))
    half = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(half, np.float64) * 255)[None, None]


def _halved_as_matlab(image: Tensor) -> Tensor:
    """Bicubic with antialiasing: eight values for each, mirrored at the edge (half-sample)."""
    distance = (torch.arange(8, dtype=image.dtype) - 3.5).abs() / 2
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    line = torch.where(distance <= 1, near, far)
    line = line / line.sum()
    mirrored = torch.cat((image[..., :3, :].flip(-2), image, image[..., -3:, :].flip(-2)), -2)
    image = F.conv2d(mirrored, line.view(1, 1, -1, 1), stride=(2, 1))
    mirrored = torch.cat((image[..., :3].flip(-1), image, image[..., -3:].flip(-1)), -1)
    return F.conv2d(mirrored, line.view(1, 1, 1, -1), stride=(1, 2))
