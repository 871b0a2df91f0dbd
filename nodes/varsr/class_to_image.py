"""VARSR Class to Image: pictures out of nothing, by the model that VARSR was trained from."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.varsr.class_to_image import Kept, class_to_image
from ...varsr_core.varsr.sampling import RefineSettings, SampleSettings
from .. import host, inputs
from ..host import advanced, schema
from ..pixels import to_comfy
from ..sockets import checked
from .inputs import class_choices, class_scales, guidance_per_scale, steps, strength
from .sockets import LoadedVARSR, VARSRModel, VARSRTokens

SIDES = (1, 2, 3, 4, 6, 9, 12, 16, 20, 24, 28, 32)  # of the token maps of VARSR_C2I
MAX_LABEL = 65535  # more than any file has; the model's own number is checked when it runs
MAX_PICTURES = 64


class ClassToImage(io.ComfyNode):
    SCALES = SIDES

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_ClassToImage",
            display_name="VARSR Class to Image",
            description="Makes pictures of a class out of nothing, with VARSR_C2I, the model that "
            "VARSR was trained from.",
            search_aliases=["class to image", "text to image", "generate", "label", "c2i", "var"],
            inputs=[
                VARSRModel.Input(
                    "model",
                    tooltip="VARSR_C2I, from Load VARSR Model; no other model has labels.",
                ),
                io.Int.Input(
                    "label",
                    default=13,
                    min=0,
                    max=MAX_LABEL,
                    tooltip="Number of the class, 0 to 3829; classes have no names, and the help "
                    "lists numbers that the authors show.",
                ),
                io.Int.Input(
                    "pictures",
                    default=1,
                    min=1,
                    max=MAX_PICTURES,
                    tooltip="How many to make; each counts the seed up by one, so any of them can "
                    "be made alone.",
                ),
                inputs.seed(),
                *class_choices(),
                advanced(steps("refine_steps")),
                advanced(strength("refine_strength")),
                *class_scales(),
                VARSRTokens.Input(
                    "tokens",
                    optional=True,
                    tooltip="Whose first scales are kept: an earlier run of this node, or pictures "
                    "of 512x512 encoded with the same model.",
                ),
                advanced(guidance_per_scale()),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The pictures, of 512x512 each; VARSR Upscale enlarges them.",
                ),
                VARSRTokens.Output(
                    display_name="tokens",
                    tooltip="For VARSR Decode and Decode Scales, or for another run to go on from.",
                ),
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, label, pictures, seed, stop_scale, **choices) -> io.NodeOutput:
        image, made = class_to_image(
            model.network,
            label,
            pictures=pictures,
            seed=seed,
            stop_scale=stop_scale,
            execution=host.execution(model),
            **_settings(model, choices),
        )
        return io.NodeOutput(to_comfy(image), made)


def _settings(model: LoadedVARSR, choices: dict[str, object]) -> dict[str, object]:
    """The other widgets as the core takes them."""
    kept = Kept(choices.pop("tokens", None), choices.pop("first_scale"))
    refining = RefineSettings(
        steps=choices.pop("refine_steps"), strength=choices.pop("refine_strength")
    )
    sampling = SampleSettings(**choices, unguided_scales=model.unguided_scales)  # the rest
    return {"kept": kept, "refining": refining, "sampling": sampling}
