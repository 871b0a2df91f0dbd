"""VARSR Upscale: all stages in one node."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.varsr.presets import PRESETS
from ...varsr_core.varsr.restorer import VARSRRestorer
from .. import host, inputs
from ..host import advanced, schema
from ..sockets import checked
from ..upscaling import ALIASES, outputs, upscaled
from .inputs import (
    NANO_SIDES,
    PRESET_SETS,
    all_stages,
    guidance_per_scale,
    k2n,
    model,
    upscale_choices,
)


class Upscale(io.ComfyNode):
    SCALES, SLIDER, PRESETS = NANO_SIDES, True, PRESETS

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
                *all_stages(),
                *inputs.masks(),
                *inputs.later_choices(PRESETS, PRESET_SETS),
                k2n(optional=True),
                advanced(inputs.steady()),
                advanced(guidance_per_scale()),
            ],
            outputs=outputs(),
        )

    @classmethod
    @checked
    def execute(cls, model, image, k2n=None, **choices) -> io.NodeOutput:
        given = {name: choices.pop(name, None) for name in ("seed", "mask", "alpha")}
        choices["unguided_scales"] = model.unguided_scales
        size, settings, sampling, refining = upscale_choices(choices)
        coarse, beside = (k2n.coarse(), [k2n.patcher]) if k2n else (None, [])
        restorer = VARSRRestorer(model.network, sampling, refining, coarse)
        execution = host.execution(model, beside=beside)
        return upscaled(restorer, execution, image, size, settings, **given)
