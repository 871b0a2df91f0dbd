"""What the nodes that do all stages in one have in common, whatever the family."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..varsr_core.images.output_size import OutputSize
from ..varsr_core.runtime.execution import Execution
from ..varsr_core.tiling.restorer import Restorer
from ..varsr_core.upscaling import UpscaleSettings, upscale
from . import host
from .before_after import comparison


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
    """Both outputs, and the comparison that the page shows."""
    restored = upscale(
        host.to_core(image, alpha),
        size,
        restorer,
        seed=seed,
        settings=settings,
        mask=host.mask_to_core(mask),
        execution=execution,
    )
    result, transparency = host.to_comfy_with_alpha(restored, image.shape[-1] == 4)
    return io.NodeOutput(result, transparency, ui=comparison(image, result))
