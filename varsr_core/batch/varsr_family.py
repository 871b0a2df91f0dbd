"""VARSR in the command: the choices of the VARSR Upscale node."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

import torch

from ..checkpoint import Checkpoint
from ..nn.schedule import GUIDANCE_SCHEDULES
from ..varsr.memory import tile_bytes
from ..varsr.model import VARSR
from ..varsr.release import NANO_FILE, model_files
from ..varsr.restorer import VARSRRestorer
from ..varsr.sampling import RefineSettings, SampleSettings
from ..varsr.weights import build_model
from .family import BatchFamily


@dataclass(frozen=True)
class VARSRChoices:
    sampling: SampleSettings
    refining: RefineSettings


def _add_to(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("VARSR")

    def add(flag: str, default: float, text: str) -> None:
        group.add_argument(
            flag, type=type(default), default=default, help=f"{text} (default: %(default)s)"
        )

    add("--guidance", SampleSettings.guidance, "push away from low quality; 0 halves the work")
    group.add_argument(
        "--guidance-schedule",
        choices=GUIDANCE_SCHEDULES,
        default=SampleSettings.guidance_schedule,
        help="how guidance grows over the scales (default: %(default)s)",
    )
    add("--top-k", SampleSettings.top_k, "tokens to choose from; 0 allows all")
    add("--top-p", SampleSettings.top_p, "total probability of the tokens to choose from")
    add("--temperature", SampleSettings.temperature, "spread of the choice among tokens")
    add("--refine-steps", RefineSettings.steps, "diffusion steps of the refiner")
    add("--refine-strength", RefineSettings.strength, "factor on the detail of the refiner")


def _choices(arguments: Namespace) -> VARSRChoices:
    names = ("guidance", "guidance_schedule", "top_k", "top_p", "temperature")
    sampling = SampleSettings(**{name: getattr(arguments, name) for name in names})
    steps, strength = arguments.refine_steps, arguments.refine_strength
    return VARSRChoices(sampling, RefineSettings(sampling.guidance, steps, strength))


def _build(read: Checkpoint, dtype: torch.dtype) -> VARSR:
    return build_model(read.tensors, dtype=dtype, fingerprint=read.fingerprint)


def _restorer(network: VARSR, choices: VARSRChoices) -> VARSRRestorer:
    return VARSRRestorer(network, choices.sampling, choices.refining)


def _tile_bytes(network: VARSR, choices: VARSRChoices) -> int:
    return tile_bytes(network)


VARSR_IN_BATCH = BatchFamily(
    NANO_FILE, _add_to, _choices, model_files, _build, _restorer, _tile_bytes
)
