"""Restoration and enlargement of pictures with next-scale autoregressive models.

A torch library that knows nothing of ComfyUI:

    from varsr_core import load_model, upscale
    larger = upscale(image, 4, load_model())    # (B, C, H, W) in [0, 1]

Read in this order: `upscaling.py` (a picture in, a larger one out), `tiling/restorer.py` (what a
family does to tiles), `varsr/` (the method).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoint import load_model
    from .errors import CheckpointError, InputError
    from .images.output_size import OutputSize
    from .upscaling import UpscaleSettings, upscale

__all__ = [
    "CheckpointError",
    "InputError",
    "OutputSize",
    "UpscaleSettings",
    "load_model",
    "upscale",
]


def __getattr__(name: str) -> object:
    """Imports what is asked for when it is asked for: importing the package alone is cheap."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import checkpoint, errors, upscaling
    from .images import output_size

    found = next(m for m in (errors, output_size, checkpoint, upscaling) if hasattr(m, name))
    return getattr(found, name)
