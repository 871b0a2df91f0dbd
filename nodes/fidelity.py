"""Fidelity, for the stages of every family and for any other upscaler."""

from comfy_api.latest import io

from ..varsr_core.images.reference import keep_of_image
from . import inputs
from .host import schema
from .pixels import to_comfy, to_core
from .sockets import checked


class Fidelity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_Fidelity",
            display_name="Fidelity",
            description="Brings a restored picture back towards the one it was made from, coarse "
            "shapes before fine detail, whatever made it; sizes may differ.",
            search_aliases=["denoise strength", "keep original", "blend", "hallucination"],
            inputs=[
                io.Image.Input("image", tooltip="The restored picture; keeps its alpha."),
                io.Image.Input(
                    "reference",
                    tooltip="The picture that it was made from, of any size; one, or as many as in "
                    "image.",
                ),
                inputs.fidelity(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The picture with so much of the reference."
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, image, reference, fidelity) -> io.NodeOutput:
        kept = keep_of_image(to_core(image), to_core(reference), fidelity)
        return io.NodeOutput(to_comfy(kept))


NODES = [Fidelity]
