"""The nodes of VARSR's stages."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.tiling.consistency import Tiling
from ...varsr_core.varsr import stages
from ...varsr_core.varsr.sampling import RefineSettings, SampleSettings
from .. import host, inputs
from ..host import advanced, schema
from ..pixels import to_comfy, to_core
from ..sockets import checked
from .inputs import (
    MAX_SCALES,
    NANO_SIDES,
    guidance,
    guidance_per_scale,
    model,
    refine_guidance,
    sampling_choices,
    steps,
    strength,
    tokens,
)
from .sockets import VARSRPrefix, VARSRTokens


class EncodePrefix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_EncodePrefix",
            display_name="VARSR Encode LR Prefix",
            description="Enlarges a low-quality picture plainly and turns it into the prefix "
            "tokens that VARSR continues.",
            search_aliases=["super resolution", "condition"],
            inputs=[
                model(),
                inputs.image(),
                *inputs.size(),
                inputs.tiling(),
                inputs.overlap(),
            ],
            outputs=[
                VARSRPrefix.Output(
                    display_name="prefix",
                    tooltip="For VARSR Next-Scale Sample; the same for every seed.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, image, tiling, overlap, **size) -> io.NodeOutput:
        prefix = stages.encode_prefix(
            model.network,
            to_core(image),
            inputs.output_size(**size),
            host.execution(model),
            Tiling(tiling, overlap),
        )
        return io.NodeOutput(prefix)


class EncodeTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_EncodeTokens",
            display_name="VARSR Encode Image to Tokens",
            description="Turns a picture into token maps of all scales: keep the first ones in "
            "VARSR Next-Scale Sample and the structure stays while texture is made anew.",
            search_aliases=["tokenizer", "vqvae encode"],
            inputs=[model(), inputs.image(), *inputs.size(), inputs.overlap()],
            outputs=[
                VARSRTokens.Output(
                    display_name="tokens",
                    tooltip="Token maps of all scales; to be resampled or decoded.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, image, overlap, **size) -> io.NodeOutput:
        tokens = stages.encode_tokens(
            model.network,
            to_core(image),
            inputs.output_size(**size),
            host.execution(model),
            overlap,
        )
        return io.NodeOutput(tokens)


class Sample(io.ComfyNode):
    SCALES = NANO_SIDES

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_Sample",
            display_name="VARSR Next-Scale Sample",
            description="Predicts the picture as token maps from coarse to fine; can stop after "
            "any scale and go on from any.",
            search_aliases=["super resolution", "autoregressive", "sampler"],
            inputs=[
                model(),
                VARSRPrefix.Input("prefix", tooltip="From VARSR Encode LR Prefix."),
                inputs.seed(),
                guidance(),
                *sampling_choices(),
                io.Int.Input(
                    "stop_scale",
                    default=0,
                    min=0,
                    max=MAX_SCALES,
                    tooltip="Stops when this many scales are there, for a look at the picture so "
                    "far; 0 runs to the last one, which the refiner needs.",
                ),
                io.Int.Input(
                    "first_scale",
                    default=0,
                    min=0,
                    max=MAX_SCALES,
                    tooltip="Keeps this many scales of `tokens` and predicts the rest: higher "
                    "stays closer to them, 0 predicts everything.",
                ),
                VARSRTokens.Input(
                    "tokens",
                    optional=True,
                    tooltip="Whose first scales are kept: an encoded picture, or an earlier run.",
                ),
                advanced(guidance_per_scale()),
            ],
            outputs=[
                VARSRTokens.Output(
                    display_name="tokens",
                    tooltip="For VARSR Diffusion Refine, Decode or Decode Scales.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, model, prefix, seed, stop_scale, first_scale, tokens=None, **choices
    ) -> io.NodeOutput:
        sampled = stages.sample_tokens(
            model.network,
            prefix,
            SampleSettings(**choices, unguided_scales=model.unguided_scales),
            seed,
            host.execution(model),
            tokens=tokens,
            first_scale=first_scale,
            stop_scale=stop_scale,
        )
        return io.NodeOutput(sampled)


class Refine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_Refine",
            display_name="VARSR Diffusion Refine",
            description="Adds the fine detail that token maps cannot hold, by a small diffusion "
            "model on every token.",
            search_aliases=["super resolution", "refiner"],
            inputs=[
                model(),
                tokens(),
                inputs.seed(),
                refine_guidance(),
                steps(),
                strength(),
            ],
            outputs=[
                VARSRTokens.Output(
                    display_name="tokens", tooltip="The same tokens with the detail added."
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, tokens, seed, guidance, steps, strength) -> io.NodeOutput:
        refined = stages.refine_tokens(
            model.network,
            tokens,
            RefineSettings(guidance, steps, strength),
            seed,
            host.execution(model),
            unguided_scales=model.unguided_scales,
        )
        return io.NodeOutput(refined)


class Decode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_Decode",
            display_name="VARSR Decode",
            description="Turns tokens into the picture, at the size that was asked for when they "
            "were encoded, with the input's alpha.",
            search_aliases=["vqvae decode"],
            inputs=[model(), tokens()],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The picture; Match Colors gives it the input's colours.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, tokens) -> io.NodeOutput:
        return io.NodeOutput(
            to_comfy(stages.decode_tokens(model.network, tokens, host.execution(model)))
        )


class DecodeScales(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_DecodeScales",
            display_name="VARSR Decode Scales",
            description="Shows how the picture grows: one picture for each scale, coarse to fine.",
            search_aliases=["preview scales", "intermediate"],
            inputs=[model(), tokens()],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="A batch: the picture after each scale, the last refined.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, tokens) -> io.NodeOutput:
        return io.NodeOutput(
            to_comfy(stages.decode_scales(model.network, tokens, host.execution(model)))
        )
