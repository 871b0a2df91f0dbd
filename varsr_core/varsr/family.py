"""All that the rest of the pack must know of VARSR: its files, how it is built, its options."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError
from ..family import Family
from ..files.lazy_tensor import StateDict
from ..files.tensors import with_partner
from ..nn.schedule import GUIDANCE_SCHEDULES
from .model import VARSR
from .restorer import VARSRRestorer
from .sampling import RefineSettings, SampleSettings
from .weights import build_model, check_weights, convert, fix_dtype

REPOSITORY = "qyp2000/VARSR"  # on Hugging Face
TOKENIZER_FILE = "VQVAE.pth"  # about 1.4 GB
TRANSFORMER_FILE = "VARSR.pth"  # about 13.7 GB, most of it optimiser state
FILES = (TOKENIZER_FILE, TRANSFORMER_FILE)
NANO_FILE = Path(__file__).parent.parent / "assets" / "varsr_nano.safetensors"

COMPLETE, TOKENIZER, TRANSFORMER = "complete model", "tokenizer", "transformer"
CLASS_TO_IMAGE = "class-to-image model"

TOKENIZER_NAMES = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")
CONVERTED_NAMES = ("quantizer.codebook.", "quantizer.phi.", "prefix_encoder.", "refiner.blocks.")
# What trainers and exporters put before the names of a release.
WRAPPERS = re.compile(r"^(?:(?:trainer|vae_local|var_wo_ddp|module|_orig_mod)\.)+")


def split(group: StateDict) -> dict[str, StateDict]:
    """Parts of VARSR in a group of named tensors, converted or under the released names."""
    if any(name.startswith(CONVERTED_NAMES) for name in group):
        return {COMPLETE: group}
    names = {WRAPPERS.sub("", name): tensor for name, tensor in group.items()}
    tokenizer = {name: t for name, t in names.items() if name.startswith(TOKENIZER_NAMES)}
    rest = {name: t for name, t in names.items() if name not in tokenizer}
    parts: dict[str, StateDict] = {}
    if "quantize.quant_resi.qresi_ls.0.weight" in tokenizer:
        parts[TOKENIZER] = tokenizer
    if "blocks.0.attn.mat_qkv.weight" in rest and "lvl_1L" in rest:
        has_prefix = "con_embedding.conv_in.weight" in rest
        parts[TRANSFORMER if has_prefix else CLASS_TO_IMAGE] = rest
    return parts


def assemble(parts: Mapping[str, StateDict]) -> StateDict:
    """A whole model under our names, checked."""
    weights = parts[COMPLETE] if COMPLETE in parts else _convert(parts)
    check_weights(weights)
    return weights


def _convert(parts: Mapping[str, StateDict]) -> StateDict:
    if CLASS_TO_IMAGE in parts:
        raise CheckpointError(
            "this is the class-to-image base model (VARSR_C2I.pth): it makes pictures of a class "
            "and has no encoder for a low-quality picture. Use VARSR.pth"
        )
    if TRANSFORMER not in parts:
        raise CheckpointError(
            "this is only the tokenizer (VQVAE.pth); choose the transformer (VARSR.pth) as the "
            "checkpoint, the tokenizer is found beside it"
        )
    if TOKENIZER not in parts:
        raise CheckpointError(
            "this is only the transformer (VARSR.pth); its tokenizer (VQVAE.pth) is needed too"
        )
    try:
        return convert({**parts[TOKENIZER], **parts[TRANSFORMER]})
    except (RuntimeError, IndexError) as error:
        raise CheckpointError(f"tensors of the wrong shape: {error}") from error


def model_files(path: Path) -> list[Path]:
    """The files of a model: a release's transformer takes the tokenizer that lies beside it."""
    return with_partner(path, TOKENIZER_FILE)


@dataclass(frozen=True)
class VARSRChoices:
    """What the user chooses of VARSR, beside what every family has."""

    sampling: SampleSettings = SampleSettings()
    refining: RefineSettings = RefineSettings()


def _restorer(model: VARSR, choices: VARSRChoices | None) -> VARSRRestorer:
    choices = choices or VARSRChoices()
    return VARSRRestorer(model, choices.sampling, choices.refining)


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


VARSR_FAMILY = Family(
    name="varsr",
    title="VARSR",
    default=NANO_FILE,
    files=model_files,
    complete=COMPLETE,
    split=split,
    assemble=assemble,
    fix_dtype=fix_dtype,
    build=build_model,
    restorer=_restorer,
    add_to=_add_to,
    choices=_choices,
)
