"""NSARM Upscale: all stages in one node."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.nsarm.presets import PRESETS
from ...varsr_core.nsarm.sampling import SampleSettings
from .. import host, inputs
from ..host import advanced, schema
from ..sockets import checked
from ..upscaling import ALIASES, outputs, upscaled
from . import text as nsarm_text
from .inputs import STRIP_SIDES, bit_choices, model, text_choices


class Upscale(io.ComfyNode):
    SCALES, SLIDER, PRESETS = STRIP_SIDES, True, PRESETS

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="NSARM_Upscale",
            display_name="NSARM Upscale",
            description="Restores and enlarges pictures of any size with NSARM: all stages in one "
            "node.",
            search_aliases=list(ALIASES),
            inputs=[
                model(),
                inputs.image(),
                *inputs.size(),
                inputs.seed(),
                *text_choices(),
                inputs.color_fix(),
                advanced(inputs.color_strength("color_strength")),
                *bit_choices(),
                inputs.tiling(),
                inputs.overlap(),
                *inputs.masks(),
                *inputs.later_choices(PRESETS, "temperature, fidelity and color_fix"),
                advanced(inputs.steady()),
            ],
            outputs=outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, saved_text: str | None = None, **_: object) -> str:
        return nsarm_text.version_on_disk(saved_text)

    @classmethod
    @checked
    def execute(
        cls, model, image, seed, saved_text, text=None, mask=None, alpha=None, **choices
    ) -> io.NodeOutput:
        inputs.set_preset(choices, PRESETS)
        size, settings = inputs.picture_choices(choices)
        sampling, text = SampleSettings(**choices), nsarm_text.chosen(text, saved_text)
        execution = host.execution(model.sampling(sampling, text))
        restorer = model.restorer(sampling, text)
        return upscaled(
            restorer, execution, image, size, settings, seed=seed, mask=mask, alpha=alpha
        )
