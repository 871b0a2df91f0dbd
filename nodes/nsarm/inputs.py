"""Inputs that several NSARM nodes share."""

from __future__ import annotations

from comfy_api.latest import io

from ...varsr_core.nsarm.config import FORCED, SIDES
from ...varsr_core.nsarm.sampling import DOWNSAMPLINGS, SampleSettings
from ..host import advanced
from . import text as nsarm_text
from .sockets import NSARMModel, NSARMText

STRIP_SIDES = SIDES[FORCED - 1 :]  # one box of the page's strip for the scales that come together


def model() -> io.Input:
    return NSARMModel.Input("model", tooltip="From Load NSARM Model.")


def bit_choices() -> list[io.Input]:
    return [
        advanced(
            io.Float.Input(
                "temperature",
                default=SampleSettings.temperature,
                min=0.0,
                max=5.0,
                step=0.05,
                tooltip="Spread of the draw of every bit: lower is safer, 0 takes the likelier "
                "value and makes the seed idle.",
            )
        ),
        advanced(
            io.Float.Input(
                "top_p",
                default=SampleSettings.top_p,
                min=0.5,
                max=1.0,
                step=0.01,
                tooltip="A bit that is more certain than this is not drawn: lower is safer, 1 "
                "draws all.",
            )
        ),
        advanced(
            io.Float.Input(
                "guidance",
                default=SampleSettings.guidance,
                min=-3.0,
                max=20.0,
                step=0.1,
                tooltip="Push from no text towards the text: 1 (the paper's) is off, other values "
                "double work and memory; -1 is what is best for the model. It does nothing without "
                "a text.",
            )
        ),
        advanced(
            io.Combo.Input(
                "downsampling",
                options=list(DOWNSAMPLINGS),
                default=SampleSettings.downsampling,
                tooltip="How the picture so far is shrunk for the next scale: area is what the "
                "released code samples with, trilinear what parts of its training use.",
            )
        ),
    ]


def text_choices() -> list[io.Input]:
    """Connected, from a file, or none; no text encoder is needed for the last two."""
    return [
        io.Combo.Input(
            "saved_text",
            options=nsarm_text.saved_names(),
            default=nsarm_text.NO_TEXT,
            tooltip="A prompt that NSARM Encode Text has saved; no text takes what the model "
            "learned for none. Not used while text is connected.",
        ),
        NSARMText.Input(
            "text",
            optional=True,
            tooltip="From NSARM Encode Text: what the picture shows; takes the place of "
            "saved_text.",
        ),
    ]
