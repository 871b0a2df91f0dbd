"""Inputs that several VARSR nodes share."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.images.output_size import OutputSize
from ...varsr_core.nn.guidance import GUIDANCE_SCHEDULES
from ...varsr_core.runtime.dtypes import DTYPE_CHOICES
from ...varsr_core.upscaling import UpscaleSettings
from ...varsr_core.varsr.class_to_image import SAMPLING as CLASS_SAMPLING
from ...varsr_core.varsr.presets import PRESETS
from ...varsr_core.varsr.refiner import DIFFUSION_STEPS
from ...varsr_core.varsr.sampling import RefineSettings, SampleSettings
from .. import inputs
from ..host import advanced
from .sockets import VARSRK2N, VARSRModel, VARSRTokens

NANO_SIDES = (1, 2, 3, 5, 8, 12, 16)  # of the token maps of the model that comes with the pack
PRESET_SETS = "guidance, refine_strength, fidelity and color_fix"
LEAST_GUIDANCE = -3.0  # times what is best for the model
MAX_SCALES = 64  # more than any schedule has; the model's own number is checked when it runs


def dtype() -> io.Input:
    return io.Combo.Input(
        "dtype",
        options=list(DTYPE_CHOICES),
        default="auto",
        tooltip="Precision of the arithmetic: auto takes what is nearest to fp32 among all that "
        "the device computes fast; fp32 needs twice the memory.",
    )


def model() -> io.Input:
    return VARSRModel.Input("model", tooltip="From Load VARSR Model.")


def k2n(*, optional: bool = False) -> io.Input:
    return VARSRK2N.Input(
        "k2n",
        optional=optional,
        tooltip="From Load K2N Model: predicts the first 3 scales for the released model, so that "
        "the picture keeps closer to the input; guidance -1 is 9 then."
        if optional
        else "From Load K2N Model.",
    )


def tokens() -> io.Input:
    return VARSRTokens.Input(
        "tokens",
        tooltip="From VARSR Next-Scale Sample, Diffusion Refine or Encode Image to Tokens.",
    )


def guidance() -> io.Input:
    return io.Float.Input(
        "guidance",
        default=SampleSettings.guidance,
        min=LEAST_GUIDANCE,
        max=20.0,
        step=0.1,
        tooltip="Push away from low quality: higher is sharper and less faithful, 0 turns it off "
        "and halves the work; -1 is what is best for the model, -0.5 half of that.",
    )


def refine_guidance() -> io.Input:
    return io.Float.Input(
        "guidance",
        default=RefineSettings.guidance,
        min=LEAST_GUIDANCE,
        max=20.0,
        step=0.1,
        tooltip="As in VARSR Next-Scale Sample, for the refiner: higher gives crisper detail and "
        "more noise, 0 halves the work, -1 is what is best for the model.",
    )


def guidance_schedule() -> io.Input:
    return io.Combo.Input(
        "guidance_schedule",
        options=list(GUIDANCE_SCHEDULES),
        default=SampleSettings.guidance_schedule,
        tooltip="How guidance grows from the first scale to the last: linear is the paper's, "
        "constant also pushes the layout, quadratic spares it more.",
    )


def top_k() -> io.Input:
    return io.Int.Input(
        "top_k",
        default=SampleSettings.top_k,
        min=0,
        max=65536,
        tooltip="Tokens to choose from: 1 always takes the likeliest (the paper's choice), "
        "more adds variety and risk, 0 allows all.",
    )


def top_p() -> io.Input:
    return io.Float.Input(
        "top_p",
        default=SampleSettings.top_p,
        min=0.01,
        max=1.0,
        step=0.01,
        tooltip="Keeps the likeliest tokens up to this total probability; "
        "1 keeps all, and it does nothing while top_k is 1.",
    )


def temperature() -> io.Input:
    return io.Float.Input(
        "temperature",
        default=SampleSettings.temperature,
        min=0.0,
        max=5.0,
        step=0.05,
        tooltip="Spread of the choice among tokens: lower is safer, 0 always takes the likeliest; "
        "it does nothing while top_k is 1.",
    )


def sampling_choices() -> list[io.Input]:
    """What few users touch, folded away."""
    return [advanced(choice()) for choice in (guidance_schedule, top_k, top_p, temperature)]


def guidance_per_scale() -> io.Input:
    return io.String.Input(
        "guidance_per_scale",
        optional=True,
        default=SampleSettings.guidance_per_scale,
        tooltip="In place of the usual growth of guidance, a list of its parts, scale by scale: "
        '"0, 0.5 x 2, 1 x ..." gives the first none, two more half, the rest all of it.',
    )


def steps(name: str = "steps") -> io.Input:
    return io.Int.Input(
        name,
        default=RefineSettings.steps,
        min=2,
        max=DIFFUSION_STEPS,
        tooltip="Diffusion steps of the refiner: 10 is the paper's choice, "
        "more takes longer and changes little.",
    )


def strength(name: str = "strength") -> io.Input:
    return io.Float.Input(
        name,
        default=RefineSettings.strength,
        min=0.0,
        max=2.0,
        step=0.05,
        tooltip="Factor on the detail that the refiner adds; 0 leaves the tokens as they are.",
    )


def all_stages() -> list[io.Input]:
    """Of nodes that run all stages, in the order that saved workflows count on."""
    return [
        inputs.seed(),
        guidance(),
        inputs.color_fix(),
        advanced(inputs.color_strength("color_strength")),
        *sampling_choices(),
        advanced(steps("refine_steps")),
        advanced(strength("refine_strength")),
        inputs.tiling(),
        inputs.overlap(),
    ]


def upscale_choices(
    choices: dict[str, object],
) -> tuple[OutputSize, UpscaleSettings, SampleSettings, RefineSettings]:
    """The widgets of VARSR Upscale as the core takes them."""
    inputs.set_preset(choices, PRESETS)
    size, settings = inputs.picture_choices(choices)
    refining = [choices.pop(name) for name in ("refine_steps", "refine_strength")]
    sampling = SampleSettings(**choices)  # the rest
    return size, settings, sampling, RefineSettings(sampling.guidance, *refining)


def class_choices() -> list[io.Input]:
    """Of VARSR Class to Image, whose defaults are others."""
    return [
        io.Float.Input(
            "guidance",
            default=CLASS_SAMPLING.guidance,
            min=0.0,
            max=20.0,
            step=0.1,
            tooltip="Push towards the class: higher is clearer and less varied, 0 turns it off and "
            "halves the work.",
        ),
        advanced(
            io.Int.Input(
                "top_k",
                default=CLASS_SAMPLING.top_k,
                min=0,
                max=65536,
                tooltip="Tokens to choose from: fewer are safer and more alike, 1 always takes the "
                "likeliest, 0 allows all.",
            )
        ),
        advanced(
            io.Float.Input(
                "top_p",
                default=CLASS_SAMPLING.top_p,
                min=0.01,
                max=1.0,
                step=0.01,
                tooltip="Keeps the likeliest tokens up to this total probability; 1 keeps all.",
            )
        ),
        advanced(temperature()),
    ]


def class_scales() -> list[io.Input]:
    """Where it stops, and from where it goes on."""
    return [
        advanced(
            io.Int.Input(
                "stop_scale",
                default=0,
                min=0,
                max=MAX_SCALES,
                tooltip="Stops when this many scales are there, for a quick look; 0 runs to the "
                "last one and refines.",
            )
        ),
        advanced(
            io.Int.Input(
                "first_scale",
                default=0,
                min=0,
                max=MAX_SCALES,
                tooltip="Keeps this many scales of `tokens` and predicts the rest: higher stays "
                "closer to them, 0 predicts everything.",
            )
        ),
    ]
