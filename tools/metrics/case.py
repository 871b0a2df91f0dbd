"""One picture that is measured, and the forms in which measures look at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

LUMA = (65.481, 128.553, 24.966)  # of red, green and blue in [0, 1]; BT.601, beginning at 16
BORDER = 4  # pixels; what lies there is mostly guessed


class Unmeasurable(Exception):
    """This measure has no value for this picture; the message says why."""


@dataclass(frozen=True)
class Case:
    """What was made of what, and what it should be; None where it is not known.

    border: pixels on each side that PSNR-Y and SSIM-Y leave out
    """

    result: Image.Image
    reference: Image.Image | None = None
    low: Image.Image | None = None
    border: int = BORDER


Measure = Callable[[Case], float]


def luma(picture: Image.Image) -> Tensor:
    """(1, 1, H, W) float64, 16 to 235, not rounded."""
    red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.float64), -1, 0)
    values = 16 + (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue) / 255
    return torch.from_numpy(values)[None, None]


def colors(picture: Image.Image) -> Tensor:
    """(1, 3, H, W) float32 in [0, 1]."""
    values = np.asarray(picture.convert("RGB"), np.float32) / 255
    return torch.from_numpy(values).movedim(-1, 0)[None]
