"""What a decoder leaves behind: a lattice of its tokens, and noise of the input. Less is better."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from tools.metrics.case import Case, Unmeasurable, luma

PERIOD = 8  # pixels of the lattice: what one token of the latent becomes
HARMONICS = 4
AROUND, NEAR, PEAK = 9, 2, 1  # radii in frequencies: neighbourhood, left out of it, the peak
GREY_SIDE, GREY_BORDER, GREY_SIGMA = 64, 8, 6.0  # pixels, pixels, of 255


def grid(case: Case) -> float:
    """dB by which luma's power on the lines of a lattice of 8 pixels exceeds that around them.

    Photographs are near 1; weave that is seen on walls and skin is 5 and more. Mean over the
    frequencies of which one axis has one of the first four harmonics, the other at most the fourth.
    """
    values = luma(case.result)[0, 0].numpy()
    height, width = (side // PERIOD * PERIOD for side in values.shape)
    if min(height, width) < PERIOD * (AROUND + NEAR + 1):
        raise Unmeasurable(f"GRID needs {PERIOD * (AROUND + NEAR + 1)} pixels of each side")
    values = values[:height, :width]
    window = np.hanning(height)[:, None] * np.hanning(width)
    power = np.abs(np.fft.fft2((values - values.mean()) * window)) ** 2
    near = np.ones((2 * AROUND + 1,) * 2, bool)
    near[AROUND - NEAR : AROUND + NEAR + 1, AROUND - NEAR : AROUND + NEAR + 1] = False
    found = []
    for row, column in _harmonics():
        center = row * (height // PERIOD), column * (width // PERIOD)
        peak = _around(power, center, PEAK).mean()
        found.append(10 * np.log10(peak / np.median(_around(power, center, AROUND)[near])))
    return float(np.mean(found))


def _harmonics() -> list[tuple[int, int]]:
    """Of rows and columns; those on an axis or of two equal parts count more than once."""
    pairs = [
        (first, sign * second)
        for first in range(1, HARMONICS + 1)
        for second in range(HARMONICS + 1)
        for sign in (1, -1)
    ]
    return pairs + [(second, first) for first, second in pairs]


def _around(power: np.ndarray, center: tuple[int, int], radius: int) -> np.ndarray:
    offsets = np.arange(-radius, radius + 1)
    indices = [(c + offsets) % side for c, side in zip(center, power.shape, strict=True)]
    return power[np.ix_(*indices)]


def noisy_grey() -> Image.Image:
    """Grey of 64x64 pixels with noise of sigma 6 of 255, equal in all channels; always the same."""
    # The old generator: its numbers are promised to stay, those of the new one are not.
    draw = np.random.RandomState(0).standard_normal((GREY_SIDE, GREY_SIDE, 1))
    values = np.clip(draw * GREY_SIGMA + 127.5 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(values.repeat(3, 2))


def noise_left(result: Image.Image) -> float:
    """Deviation of grey, of 255, inside what a model made of `noisy_grey()`, at any scale."""
    values = torch.from_numpy(np.asarray(result.convert("RGB"), np.float64)).mean(2)
    top, left = (side * GREY_BORDER // GREY_SIDE for side in values.shape)
    inside = values[top : values.shape[0] - top, left : values.shape[1] - left]
    return float(inside.std(unbiased=False))
