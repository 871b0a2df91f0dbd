"""All that the rest of the pack must know of NSARM: its files, how it is built, its options."""

from __future__ import annotations

import hashlib
import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..family import Family
from ..files.lazy_tensor import StateDict
from ..files.tensors import with_partner
from ..runtime.dtypes import RANGE
from .config import PAPER
from .model import NSARM, build_model, check_weights, fix_dtype
from .presets import PRESETS
from .restorer import NSARMRestorer
from .row_scaled import pack
from .sampling import DOWNSAMPLINGS, SampleSettings
from .text_files import load_text
from .weights import convert

TRANSFORMER_FILE = "NSARM.pth"  # handed out in pieces
AUTOENCODER_FILE = "infinity_vae_d56_f8_14_patchify.pth"

COMPLETE, TRANSFORMER, MAPS, AUTOENCODER = (
    "complete model", "transformer", "map network", "autoencoder"
)  # fmt: skip

CONVERTED_ROOTS = {"vae", "maps", "transformer"}
AUTOENCODER_NAMES = ("encoder.", "decoder.", "quantize.", "quantizer.")
# What trainers and exporters put before the names of a release.
WRAPPERS = re.compile(r"^(?:(?:trainer|gpt_fsdp|gpt|vae|module|_orig_mod)\.)+")


def split(group: StateDict) -> dict[str, StateDict]:
    """Parts of NSARM in a group of named tensors, converted or under the released names."""
    if len(CONVERTED_ROOTS & {name.partition(".")[0] for name in group}) > 1:
        return {COMPLETE: group}
    names = {WRAPPERS.sub("", name): tensor for name, tensor in group.items()}
    vae = {name: t for name, t in names.items() if name.startswith(AUTOENCODER_NAMES)}
    maps = {name: t for name, t in names.items() if name.startswith("map_transformer.")}
    rest = {name: t for name, t in names.items() if name not in vae and name not in maps}
    parts: dict[str, StateDict] = {}
    if _is_autoencoder(vae):
        parts[AUTOENCODER] = vae
    if maps:
        parts[MAPS] = maps
    if any(name.startswith("block_chunks.") for name in rest):
        parts[TRANSFORMER] = rest
    return parts


def _is_autoencoder(names: StateDict) -> bool:
    """Of its kind: layers wrapped, or, under plain names, without attention and codebook."""
    if "encoder.conv_in.conv.weight" in names:
        return True
    others = (".attn", "quantize.embedding.", "quant_conv.")
    return "encoder.mid.block_1.conv1.weight" in names and not any(
        other in name for name in names for other in others
    )


def assemble(parts: Mapping[str, StateDict]) -> StateDict:
    """A whole model under our names, checked."""
    weights = parts[COMPLETE] if COMPLETE in parts else _convert(parts)
    check_weights(weights)
    return weights


def _convert(parts: Mapping[str, StateDict]) -> StateDict:
    if TRANSFORMER in parts and MAPS not in parts:
        raise CheckpointError(
            "this is a plain Infinity checkpoint: it makes pictures of a text and has no map "
            f"network (map_transformer) for a low-quality picture. Use {TRANSFORMER_FILE}"
        )
    if TRANSFORMER not in parts and MAPS in parts:
        raise CheckpointError(
            "this is only a part of the transformer: the map network without its blocks. Give "
            f"{TRANSFORMER_FILE} as a whole"
        )
    if TRANSFORMER not in parts:
        raise CheckpointError(
            f"this is only the autoencoder ({AUTOENCODER_FILE}); choose the transformer "
            f"({TRANSFORMER_FILE}) as the checkpoint, the autoencoder is found beside it"
        )
    if AUTOENCODER not in parts:
        raise CheckpointError(
            f"this is only the transformer ({TRANSFORMER_FILE}); its autoencoder "
            f"({AUTOENCODER_FILE}) is needed too, beside it"
        )
    try:
        return convert({**parts[AUTOENCODER], **parts[MAPS], **parts[TRANSFORMER]})
    except (RuntimeError, IndexError, ValueError) as error:
        raise CheckpointError(f"tensors of the wrong shape: {error}") from error


def model_files(path: Path) -> list[Path]:
    """The files of a model: a release's transformer takes the autoencoder that lies beside it."""
    return with_partner(path, AUTOENCODER_FILE)


@dataclass(frozen=True)
class NSARMChoices:
    """What the user chooses of NSARM, beside what every family has.

    text:  path of a prompt's features, or ""
    text_hash: of what is in it
    """

    sampling: SampleSettings = SampleSettings()
    text: str = ""
    text_hash: str = ""


def _restorer(model: NSARM, choices: NSARMChoices | None) -> NSARMRestorer:
    choices = choices or NSARMChoices()
    features = load_text(Path(choices.text)).features if choices.text else None
    return NSARMRestorer(model, choices.sampling, features)


def _add_to(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("NSARM")
    defaults = SampleSettings()
    for flag, default, text in (
        ("--temperature", defaults.temperature, "spread of the draw of every bit; 0 draws none"),
        ("--top-p", defaults.top_p, "bits more certain than this are not drawn"),
        (
            "--guidance",
            defaults.guidance,
            "push towards the text; 1 is off and halves the work, below 0 times the model's own",
        ),
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


def _training_of_maps() -> Any:
    from .training.maps import TRAINED

    return TRAINED


def _training() -> Any:
    from .training.whole import TRAINED

    return TRAINED


NSARM_FAMILY = Family(
    name="nsarm",
    title="NSARM",
    default=None,
    files=model_files,
    complete=COMPLETE,
    split=split,
    assemble=assemble,
    fix_dtype=fix_dtype,
    build=build_model,
    defaults=PAPER,
    restorer=_restorer,
    presets=PRESETS,
    add_to=_add_to,
    choices=_choices,
    pack=pack,
    dtypes=RANGE,
    training={"nsarm_maps": _training_of_maps, "nsarm": _training},
)
