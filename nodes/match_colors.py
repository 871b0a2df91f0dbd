"""Match Colors, for the stages of every family and for any other upscaler."""

from comfy_api.latest import io

from ..varsr_core.images.reference import match_image_colors
from . import inputs
from .host import schema
from .pixels import to_comfy, to_core
from .sockets import checked


class MatchColors(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_MatchColors",
            display_name="Match Colors",
            description="Gives a picture the colours of another one, whatever made them; sizes "
            "may differ.",
            search_aliases=["color fix", "color transfer", "adain", "wavelet"],
            inputs=[
                io.Image.Input("image", tooltip="Picture whose colours are changed; keeps alpha."),
                io.Image.Input(
                    "reference",
                    tooltip="Picture whose colours are taken, e.g. the low-quality input; one, "
                    "or as many as in image.",
                ),
                inputs.color_mode(),
                inputs.color_strength("strength"),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture in its new colours.")
            ],
        )

    @classmethod
    @checked
    def execute(cls, image, reference, mode, strength) -> io.NodeOutput:
        matched = match_image_colors(to_core(image), to_core(reference), mode, strength)
        return io.NodeOutput(to_comfy(matched))


NODES = [MatchColors]
