"""NSARM in the command: the choices of the NSARM Upscale node."""

from __future__ import annotations

import hashlib
import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

import torch

from ..checkpoint import Checkpoint
from ..nsarm.memory import decoding_bytes, encoding_bytes, sampling_bytes
from ..nsarm.model import NSARM, build_model
from ..nsarm.release import model_files
from ..nsarm.restorer import NSARMRestorer
from ..nsarm.sampling import DOWNSAMPLINGS, SampleSettings
from ..nsarm.text_files import load_text
from .family import BatchFamily


@dataclass(frozen=True)
class NSARMChoices:
    """text: path of a prompt's features, or ""; text_hash: of what is in it"""

    sampling: SampleSettings
    text: str = ""
    text_hash: str = ""


def _add_to(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("NSARM")
    defaults = SampleSettings()
    for flag, default, text in (
        ("--temperature", defaults.temperature, "spread of the draw of every bit; 0 draws none"),
        ("--top-p", defaults.top_p, "bits more certain than this are not drawn"),
        ("--guidance", defaults.guidance, "push towards the text; 1 is off and halves the work"),
    ):
        group.add_argument(flag, type=float, default=default, help=f"{text} (default: %(default)s)")
    group.add_argument(
        "--downsampling",
        choices=DOWNSAMPLINGS,
        default=defaults.downsampling,
        help="how the picture so far is shrunk for the next scale (default: %(default)s)",
    )
    group.add_argument(
        "--text",
        metavar="FILE",
        help="features of a prompt, as NSARM Encode Text saves them (default: no text)",
    )


def _choices(arguments: Namespace) -> NSARMChoices:
    names = ("temperature", "top_p", "guidance", "downsampling")
    sampling = SampleSettings(**{name: getattr(arguments, name) for name in names})
    if arguments.text is None:
        return NSARMChoices(sampling)
    path = Path(os.path.abspath(arguments.text))
    load_text(path)  # what is wrong with it is told before the model is loaded
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return NSARMChoices(sampling, str(path), digest)


def _build(read: Checkpoint, dtype: torch.dtype) -> NSARM:
    return build_model(read.tensors, dtype=dtype, fingerprint=read.fingerprint)


def _restorer(network: NSARM, choices: NSARMChoices) -> NSARMRestorer:
    features = load_text(Path(choices.text)).features if choices.text else None
    return NSARMRestorer(network, choices.sampling, features)


def _tile_bytes(network: NSARM, choices: NSARMChoices) -> int:
    texts = 2 if choices.text and choices.sampling.guidance != 1 else 1
    parts = encoding_bytes(network), sampling_bytes(network, texts), decoding_bytes(network)
    return max(parts)


NSARM_IN_BATCH = BatchFamily(None, _add_to, _choices, model_files, _build, _restorer, _tile_bytes)
