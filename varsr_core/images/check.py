"""What is a picture at all."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

RANGE_TOLERANCE = 0.1  # resampling overshoots [0, 1] a little; more than this is another range


def check_tensor(
    value: object, name: str, *axes: str, real: bool = True, hint: str = "Check where it is from."
) -> None:
    """Refuses what is no dense tensor of numbers with one of these layouts, e.g. "(B, H, W, C)".

    real: whole numbers and truth values are refused, as complex numbers always are
    Raises InputError; hint ends its text.
    """
    if (
        not isinstance(value, Tensor)
        or value.is_nested
        or value.is_meta
        or value.layout is not torch.strided
        or value.ndim not in [layout.count(",") + 1 for layout in axes]
        or not (value.is_floating_point() if real else not value.is_complex())
    ):
        numbers = "floating-point numbers" if real else "numbers"
        raise InputError(
            f"{name} is {described(value)}; {' or '.join(axes)} of {numbers} is expected. {hint}"
        )


def described(value: object) -> str:
    """What someone gave, in a few words."""
    if not isinstance(value, Tensor):
        return "None" if value is None else f"of the type {type(value).__name__}"
    shape = "nested" if value.is_nested else tuple(value.shape)
    form = "" if value.layout is torch.strided else f"{value.layout} "
    return f"a {form}tensor {shape} of {value.dtype}".replace("torch.", "")


def check_pixels(image: Tensor, name: str = "image") -> None:
    """Refuses what is no picture of any size: (B, C, H, W) in [0, 1], C 1, 3 or 4."""
    check_tensor(image, name, "(B, C, H, W)")
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
