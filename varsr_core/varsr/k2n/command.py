"""K2N among the options of the command, and loaded for a run."""

from __future__ import annotations

import os
from argparse import Namespace, _ArgumentGroup
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError
from ...family import PLACE
from ...runtime.defaults import resolved
from ..config import PAPER, VARSRConfig
from ..settings import SampleSettings
from .coarse import Coarse, check_fit, check_scales, with_coarse
from .config import USUAL_SCALES, infer_config
from .kind import read_k2n
from .weights import build_model


@dataclass(frozen=True)
class CoarseChoices:
    """What gives the first scales of VARSR.

    k2n:     path of a K2N file, or ""
    weights: fingerprint of what is in it
    scales:  how many it gives; 0 without one
    """

    k2n: str = field(default="", metadata={PLACE: True})
    weights: str = ""
    scales: int = 0


def add_coarse(group: _ArgumentGroup) -> None:
    """The options."""
    group.add_argument(
        "--k2n",
        metavar="FILE",
        help="K2N's file, as released or converted: it gives the first scales of the released "
        "VARSR, for pictures that keep closer to the input; guidance is 9 then, unless given",
    )
    group.add_argument(
        "--k2n-scales",
        type=int,
        default=USUAL_SCALES,
        metavar="N",
        help="how many first scales K2N gives (default: %(default)s)",
    )


def coarse_choices(arguments: Namespace) -> CoarseChoices:
    """The user's values. Raises CheckpointError or InputError before a model is loaded."""
    if arguments.k2n is None:
        return CoarseChoices()
    path = Path(os.path.abspath(arguments.k2n))
    read = read_k2n(path)
    check_scales(arguments.k2n_scales, infer_config(read.tensors))
    return CoarseChoices(str(path), str(read.fingerprint), arguments.k2n_scales)


def resolved_beside(choices: CoarseChoices, sampling: SampleSettings) -> SampleSettings:
    """With the guidance that is best beside K2N, where that is left to the model."""
    return resolved(sampling, with_coarse(PAPER)) if choices.k2n else sampling


def check_coarse(choices: CoarseChoices, varsr: VARSRConfig, codebook: Tensor) -> None:
    """Raises InputError for a VARSR that the chosen K2N does not fit."""
    if choices.k2n:
        check_fit(infer_config(read_k2n(Path(choices.k2n)).tensors), varsr, codebook)


def loaded_coarse(choices: CoarseChoices, device: torch.device) -> Coarse | None:
    """The networks on their device. Raises InputError where the file is no longer the same."""
    if not choices.k2n:
        return None
    read = read_k2n(Path(choices.k2n))
    if choices.weights not in ("", str(read.fingerprint)):
        raise InputError(f"{choices.k2n} is not what it was when this run began; start it again")
    network = build_model(read.tensors, fingerprint=read.fingerprint)
    return Coarse(network.to(device), choices.scales)
