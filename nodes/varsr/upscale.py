"""VARSR Upscale: all stages in one node."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.upscaling import UpscaleSettings
from ...varsr_core.varsr.restorer import VARSRRestorer
from .. import host, inputs
from ..host import advanced, schema
from ..sockets import checked
from ..upscaling import ALIASES, outputs, upscaled
from .inputs import NANO_SIDES, guidance, model, sampling_choices, steps, strength, upscale_choices


class Upscale(io.ComfyNode):
    SCALES, SLIDER = NANO_SIDES, True

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_Upscale",
            display_name="VARSR Upscale",
            description="Restores and enlarges pictures of any size with VARSR: all stages in one "
            "node.",
            search_aliases=list(ALIASES),
            inputs=[
                model(),
                inputs.image(),
                *inputs.size(),
                inputs.seed(),
                guidance(),
                inputs.color_mode("color_fix", UpscaleSettings.color_fix),
                advanced(inputs.color_strength("color_strength")),
                *sampling_choices(),
                advanced(steps("refine_steps")),
                advanced(strength("refine_strength")),
                inputs.tiling(),
                inputs.overlap(),
                *inputs.masks(),
            ],
            outputs=outputs(),
        )

    @classmethod
    @checked
    def execute(cls, model, image, seed, mask=None, alpha=None, **choices) -> io.NodeOutput:
        choices["unguided_scales"] = model.unguided_scales
        size, settings, sampling, refining = upscale_choices(choices)
        return upscaled(
            VARSRRestorer(model.network, sampling, refining),
            host.execution(model),
            image,
            size,
            settings,
            seed=seed,
            mask=mask,
            alpha=alpha,
        )
