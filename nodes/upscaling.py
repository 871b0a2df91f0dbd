"""What the nodes that do all stages in one have in common, whatever the family."""

from __future__ import annotations

import logging

from comfy_api.latest import io
from torch import Tensor

from ..varsr_core.errors import InputError
from ..varsr_core.images.output_size import OutputSize
from ..varsr_core.runtime.execution import Execution
from ..varsr_core.tiling.restorer import Restorer
from ..varsr_core.upscaling import UpscaleSettings, upscale
from . import pixels
from .before_after import comparison

# What people type who look for such a node, in any words.
ALIASES = (
    "super resolution", "restore", "enlarge", "upscaler", "4x", "upscale image", "hires", "esrgan",
    "enhance", "sharpen", "deblur", "denoise", "jpeg artifacts", "face",
)  # fmt: skip
PLACEHOLDER = (64, 64)  # Load Image's MASK, all 0, for a picture without transparency
REMEDY = "Load Image's MASK, if nothing was painted there, is transparency and belongs in alpha."

logger = logging.getLogger(__name__)


def outputs() -> list[io.Output]:
    return [
        io.Image.Output(
            display_name="image", tooltip="The restored picture, colours as in the input."
        ),
        io.Mask.Output(
            display_name="alpha",
            tooltip="Transparency enlarged with the picture, 1 where it is transparent, "
            "as Load Image gives it; all 0 when there is none.",
        ),
    ]


def upscaled(
    restorer: Restorer,
    execution: Execution,
    image: Tensor,
    size: OutputSize,
    settings: UpscaleSettings,
    *,
    seed: int,
    mask: Tensor | None,
    alpha: Tensor | None,
) -> io.NodeOutput:
    """Both outputs, and what the page shows: the comparison, a note if nothing was restored."""
    notes = _notes(mask, image)
    restored = upscale(
        pixels.to_core(image, alpha),
        size,
        restorer,
        seed=seed,
        settings=settings,
        mask=pixels.mask_to_core(mask),
        execution=execution,
    )
    result, transparency = pixels.to_comfy_with_alpha(restored, image.shape[-1] == 4)
    for note in notes:
        logger.warning(note)
    shown = {**comparison(image, result), "varsr_note": notes}
    return io.NodeOutput(result, transparency, ui=shown)


def _notes(mask: Tensor | None, image: Tensor) -> list[str]:
    """Of a mask that is 0 everywhere; InputError for one that nobody can have meant."""
    if mask is None or mask.numel() == 0 or mask.any():
        return []
    size = tuple(image.shape[1:3])
    if tuple(mask.shape[-2:]) == PLACEHOLDER != size:
        raise InputError(
            f"mask is what Load Image gives for a picture without transparency: 64x64, all 0, and "
            f"the picture has {size[1]}x{size[0]}. Paint a mask there, or disconnect it. {REMEDY}"
        )
    return [f"Nothing is selected: nothing was restored, for mask is 0 everywhere. {REMEDY}"]
