"""Inputs that several VARSR nodes share."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.images.output_size import OutputSize
from ...varsr_core.nn.schedule import GUIDANCE_SCHEDULES
from ...varsr_core.upscaling import UpscaleSettings
from ...varsr_core.varsr.refiner import DIFFUSION_STEPS
from ...varsr_core.varsr.sampling import RefineSettings, SampleSettings
from .. import inputs
from ..host import advanced
from .sockets import VARSRModel, VARSRTokens

NANO_SIDES = (1, 2, 3, 5, 8, 12, 16)  # of the token maps of the model that comes with the pack
MAX_SCALES = 64  # more than any schedule has; the model's own number is checked when it runs


def model() -> io.Input:
    return VARSRModel.Input("model", tooltip="From Load VARSR Model.")


def tokens() -> io.Input:
    return VARSRTokens.Input(
        "tokens",
        tooltip="From VARSR Next-Scale Sample, Diffusion Refine or Encode Image to Tokens.",
    )


def guidance() -> io.Input:
    return io.Float.Input(
        "guidance",
        default=SampleSettings.guidance,
        min=0.0,
        max=20.0,
        step=0.1,
        tooltip="Push away from low quality: higher is sharper and less faithful, "
        "0 turns it off and halves the work.",
    )


def refine_guidance() -> io.Input:
    return io.Float.Input(
        "guidance",
        default=RefineSettings.guidance,
        min=0.0,
        max=20.0,
        step=0.1,
        tooltip="As in VARSR Next-Scale Sample, for the refiner: higher gives crisper detail and "
        "more noise, 0 halves the work.",
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


def upscale_choices(
    choices: dict[str, object],
) -> tuple[OutputSize, UpscaleSettings, SampleSettings, RefineSettings]:
    """The widgets of VARSR Upscale as the core takes them."""
    size, settings = inputs.picture_choices(choices)
    refining = [choices.pop(name) for name in ("refine_steps", "refine_strength")]
    sampling = SampleSettings(**choices)  # the rest
    return size, settings, sampling, RefineSettings(sampling.guidance, *refining)
