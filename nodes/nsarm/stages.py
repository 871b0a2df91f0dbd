"""The NSARM nodes: one for each stage, and one for all of them."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.nsarm import stages
from ...varsr_core.nsarm.sampling import SampleSettings
from ...varsr_core.runtime.dtypes import DTYPE_CHOICES
from ...varsr_core.tiling.consistency import Tiling
from ...varsr_core.upscaling import UpscaleSettings
from .. import host, inputs
from ..host import advanced, schema, to_comfy, to_core
from ..upscaling import outputs, upscaled
from . import loading as nsarm_loading
from . import text as nsarm_text
from .inputs import NSARMBits, NSARMModel, NSARMPrefix, NSARMText, bit_choices, model, text_choices


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="NSARM_LoadModel",
            display_name="Load NSARM Model",
            description="Loads an NSARM model of 8.8 billion weights from models/nsarm: one "
            "converted file, or NSARM.pth with its autoencoder beside it.",
            search_aliases=["super resolution", "restore", "checkpoint", "next scale", "infinity"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=nsarm_loading.choices(),
                    tooltip="A file of models/nsarm. Converted to bf16 or fp8 it loads fastest; "
                    "for NSARM.pth the autoencoder is taken from the same folder.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPE_CHOICES),
                    default="auto",
                    tooltip="Precision of the arithmetic: auto takes what the device computes "
                    "fast, fp32 is exact and needs twice the memory; fp8 files stay fp8.",
                ),
            ],
            outputs=[
                NSARMModel.Output(display_name="model", tooltip="For every other NSARM node.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str, dtype: str) -> str:
        return f"{nsarm_loading.version_on_disk(checkpoint)} {dtype}"

    @classmethod
    def execute(cls, checkpoint: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(nsarm_loading.load(checkpoint, dtype))


class EncodeText(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="NSARM_EncodeText",
            display_name="NSARM Encode Text",
            description="Turns a prompt, written or from a caption node, into what NSARM reads; "
            "can save it, so that the text encoder is not needed again.",
            search_aliases=["prompt", "caption", "t5", "condition"],
            inputs=[
                io.Combo.Input(
                    "text_encoder",
                    options=nsarm_text.encoder_files(),
                    tooltip="The encoder of flan-t5-xl, one file of models/text_encoders; it is "
                    "read for this node only and leaves memory before sampling.",
                ),
                io.String.Input(
                    "prompt",
                    default="A high-quality image with harmonious colors and rich details.",
                    multiline=True,
                    tooltip="What the picture shows, in English; the authors used captions of 50 "
                    "to 120 words. Any caption node can be connected.",
                ),
                advanced(
                    io.String.Input(
                        "save_as",
                        default="",
                        tooltip="Name under which the result is saved for saved_text of the other "
                        "nodes; empty saves nothing.",
                    )
                ),
            ],
            outputs=[
                NSARMText.Output(display_name="text", tooltip="For NSARM Sample or NSARM Upscale.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, text_encoder: str, **_: object) -> str:
        return host.versions([nsarm_text.encoder_path(text_encoder)])

    @classmethod
    def execute(cls, text_encoder: str, prompt: str, save_as: str) -> io.NodeOutput:
        text = nsarm_text.encode(text_encoder, prompt)
        if save_as:
            nsarm_text.keep(text, save_as)
        return io.NodeOutput(text)


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
    def execute(cls, model, bits) -> io.NodeOutput:
        execution = host.execution(model.decoding())
        return io.NodeOutput(to_comfy(stages.decode(model.restorer(), bits, execution)))


class Upscale(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="NSARM_Upscale",
            display_name="NSARM Upscale",
            description="Restores and enlarges pictures of any size with NSARM: all stages in one "
            "node.",
            search_aliases=["super resolution", "restore", "enlarge", "upscaler", "4x"],
            inputs=[
                model(),
                inputs.image(),
                *inputs.size(),
                inputs.seed(),
                *text_choices(),
                inputs.color_mode("color_fix", UpscaleSettings.color_fix),
                advanced(inputs.color_strength("color_strength")),
                *bit_choices(),
                inputs.tiling(),
                inputs.overlap(),
                *inputs.masks(),
            ],
            outputs=outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, saved_text: str | None = None, **_: object) -> str:
        return nsarm_text.version_on_disk(saved_text)

    @classmethod
    def execute(
        cls, model, image, seed, saved_text, text=None, mask=None, alpha=None, **choices
    ) -> io.NodeOutput:
        size, settings = inputs.picture_choices(choices)
        sampling, text = SampleSettings(**choices), nsarm_text.chosen(text, saved_text)
        execution = host.execution(model.sampling(sampling, text))
        restorer = model.restorer(sampling, text)
        return upscaled(
            restorer, execution, image, size, settings, seed=seed, mask=mask, alpha=alpha
        )


NODES = [LoadModel, EncodeText, Prefix, Sample, Decode, Upscale]
