"""The nodes of NSARM's stages."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.nsarm import stages
from ...varsr_core.nsarm.sampling import SampleSettings
from ...varsr_core.tiling.consistency import Tiling
from .. import host, inputs
from ..host import schema
from ..pixels import to_comfy, to_core
from ..sockets import checked
from . import text as nsarm_text
from .inputs import STRIP_SIDES, bit_choices, model, text_choices
from .sockets import NSARMBits, NSARMPrefix


class Prefix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="NSARM_Prefix",
            display_name="NSARM Prefix",
            description="Turns a low-quality picture into the first 7 of 13 scales, from which "
            "NSARM predicts the rest.",
            search_aliases=["super resolution", "condition", "map network"],
            inputs=[
                model(),
                inputs.image(),
                *inputs.size(),
                inputs.tiling(),
                inputs.overlap(),
            ],
            outputs=[
                NSARMPrefix.Output(
                    display_name="prefix",
                    tooltip="For NSARM Sample; the same for every seed and text.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, image, tiling, overlap, **size) -> io.NodeOutput:
        prefix = stages.encode_prefix(
            model.restorer(),
            to_core(image),
            inputs.output_size(**size),
            host.execution(model.encoding()),
            Tiling(tiling, overlap),
        )
        return io.NodeOutput(prefix)


class Sample(io.ComfyNode):
    SCALES = STRIP_SIDES

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="NSARM_Sample",
            display_name="NSARM Sample",
            description="Predicts the bits of all finer scales, each from those before it and "
            "from a text.",
            search_aliases=["super resolution", "autoregressive", "sampler", "bitwise"],
            inputs=[
                model(),
                NSARMPrefix.Input("prefix", tooltip="From NSARM Prefix."),
                inputs.seed(),
                *text_choices(),
                *bit_choices(),
            ],
            outputs=[NSARMBits.Output(display_name="bits", tooltip="For NSARM Decode.")],
        )

    @classmethod
    def fingerprint_inputs(cls, saved_text: str | None = None, **_: object) -> str:
        return nsarm_text.version_on_disk(saved_text)

    @classmethod
    @checked
    def execute(cls, model, prefix, seed, saved_text, text=None, **choices) -> io.NodeOutput:
        settings, text = SampleSettings(**choices), nsarm_text.chosen(text, saved_text)
        restorer = model.restorer(settings, text)
        execution = host.execution(model.sampling(settings, text))
        return io.NodeOutput(stages.sample(restorer, prefix, seed, execution))


class Decode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="NSARM_Decode",
            display_name="NSARM Decode",
            description="Turns sampled bits into the picture, at the size that was asked for in "
            "NSARM Prefix, with the input's alpha.",
            search_aliases=["vae decode"],
            inputs=[model(), NSARMBits.Input("bits", tooltip="From NSARM Sample.")],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The picture; Match Colors gives it the input's colours.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, bits) -> io.NodeOutput:
        execution = host.execution(model.decoding())
        return io.NodeOutput(to_comfy(stages.decode(model.restorer(), bits, execution)))
