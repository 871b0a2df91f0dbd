"""All stages of VARSR in one node."""

from __future__ import annotations

from comfy_api.latest import io

from ..varsr_core.upscale import UpscaleSettings, upscale
from ..varsr_core.varsr.restorer import VARSRRestorer
from . import inputs, runtime
from .comparison import comparison
from .runtime import advanced, schema, to_core


class Upscale(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_Upscale",
            display_name="VARSR Upscale",
            description="Restores and enlarges pictures of any size with VARSR: all stages in one "
            "node.",
            search_aliases=["super resolution", "restore", "enlarge", "upscaler", "4x"],
            inputs=[
                inputs.model(),
                inputs.image(),
                *inputs.size(),
                inputs.seed(),
                inputs.guidance(),
                inputs.color_mode("color_fix", UpscaleSettings.color_fix),
                advanced(inputs.color_strength("color_strength")),
                *inputs.sampling_choices(),
                advanced(inputs.steps("refine_steps")),
                advanced(inputs.strength("refine_strength")),
                inputs.tiling(),
                inputs.overlap(),
                *inputs.masks(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The restored picture, colours as in the input."
                ),
                io.Mask.Output(
                    display_name="alpha",
                    tooltip="Transparency enlarged with the picture, 1 where it is transparent, "
                    "as Load Image gives it; all 0 when there is none.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, image, seed, mask=None, alpha=None, **choices) -> io.NodeOutput:
        choices["unguided_scales"] = model.unguided_scales
        size, settings, sampling, refining = inputs.upscale_choices(choices)
        restored = upscale(
            to_core(image, alpha),
            size,
            VARSRRestorer(model.network, sampling, refining),
            seed=seed,
            settings=settings,
            mask=runtime.mask_to_core(mask),
            execution=runtime.execution(model),
        )
        result, transparency = runtime.to_comfy_with_alpha(restored, image.shape[-1] == 4)
        return io.NodeOutput(result, transparency, ui=comparison(image, result))
