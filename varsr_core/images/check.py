"""What is a picture at all."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

RANGE_TOLERANCE = 0.1  # resampling overshoots [0, 1] a little; more than this is another range


def check_pixels(image: Tensor, name: str = "image") -> None:
    """Refuses what is no picture of any size: (B, C, H, W) in [0, 1], C 1, 3 or 4."""
    channels = image.shape[1]
    if channels not in (1, 3, 4):
        raise InputError(
            f"{name} has {channels} channels; 1 (grey), 3 (RGB) or 4 (RGBA) are expected. "
            "Split it or convert it to RGB first."
        )
    if image.numel() == 0:
        raise InputError(
            f"{name} holds {image.shape[0]} pictures of {image.shape[3]}x{image.shape[2]} pixels; "
            "at least one of at least one pixel is expected. Check the node before this one."
        )
    low, high = image.aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise InputError(
            f"{name} contains NaN or infinite pixels. The node before this one failed to make a "
            "picture; mend it there (often: run its VAE in float32)."
        )
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise InputError(
            f"{name} has values from {low:.3g} to {high:.3g}; 0 to 1 is expected. Rescale it first."
        )
