"""All that the rest of the pack must know of VARSR: its files, how it is built, its options."""

from __future__ import annotations

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
from ..nn.guidance import GUIDANCE_SCHEDULES
from .config import PAPER, infer_config
from .k2n.command import (
    CoarseChoices,
    add_coarse,
    check_coarse,
    coarse_choices,
    loaded_coarse,
    resolved_beside,
)
from .k2n.kind import CODEBOOK
from .model import VARSR
from .presets import PRESETS
from .restorer import VARSRRestorer
from .sampling import RefineSettings, SampleSettings
from .weights import build_model, check_weights, convert, fix_dtype

REPOSITORY = "qyp2000/VARSR"  # on Hugging Face
TOKENIZER_FILE = "VQVAE.pth"  # about 1.4 GB
TRANSFORMER_FILE = "VARSR.pth"  # about 13.7 GB, most of it optimiser state
CLASS_TO_IMAGE_FILE = "VARSR_C2I.pth"  # about as large; takes the same tokenizer
FILES = (TOKENIZER_FILE, TRANSFORMER_FILE)
RELEASED_BYTES = {TOKENIZER_FILE: 1.4e9, TRANSFORMER_FILE: 13.7e9}  # about
CONVERTED_FILE = "varsr_fp16.safetensors"  # both in one, as we name it
EARLIER_FILE = "varsr_bf16.safetensors"  # the same as versions before named and stored it
CONVERTED_BYTES = 1.7e9  # about
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
    transformers = [parts[part] for part in (TRANSFORMER, CLASS_TO_IMAGE) if part in parts]
    if len(transformers) > 1:
        raise CheckpointError(
            f"these are two transformers, of {TRANSFORMER_FILE} and of {CLASS_TO_IMAGE_FILE}; give "
            "one of them and the tokenizer"
        )
    if not transformers:
        raise CheckpointError(
            "this is only the tokenizer (VQVAE.pth); choose the transformer (VARSR.pth) as the "
            "checkpoint, the tokenizer is found beside it"
        )
    if TOKENIZER not in parts:
        raise CheckpointError(
            f"this is only the transformer ({_file(parts)}); its tokenizer (VQVAE.pth) is needed "
            "too"
        )
    try:
        return convert({**parts[TOKENIZER], **transformers[0]})
    except (RuntimeError, IndexError) as error:
        raise CheckpointError(f"tensors of the wrong shape: {error}") from error


def _file(parts: Mapping[str, StateDict]) -> str:
    return CLASS_TO_IMAGE_FILE if CLASS_TO_IMAGE in parts else TRANSFORMER_FILE


def model_files(path: Path) -> list[Path]:
    """The files of a model: a release's transformer takes the tokenizer that lies beside it."""
    return with_partner(path, TOKENIZER_FILE)


@dataclass(frozen=True)
class VARSRChoices:
    """What the user chooses of VARSR, beside what every family has.

    coarse: what gives the first scales, if not VARSR itself
    """

    sampling: SampleSettings = SampleSettings()
    refining: RefineSettings = RefineSettings()
    coarse: CoarseChoices = CoarseChoices()


def _restorer(model: VARSR, choices: VARSRChoices | None) -> VARSRRestorer:
    choices = choices or VARSRChoices()
    coarse = loaded_coarse(choices.coarse, model.word_embed.weight.device)
    return VARSRRestorer(model, choices.sampling, choices.refining, coarse)


def _add_to(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("VARSR")

    def add(flag: str, default: float, text: str) -> None:
        group.add_argument(
            flag, type=type(default), default=default, help=f"{text} (default: %(default)s)"
        )

    group.add_argument(
        "--guidance",
        type=float,
        default=SampleSettings.guidance,
        help="push away from low quality; 0 halves the work; below 0, so many times what is best "
        "for the model (default: -1)",
    )
    group.add_argument(
        "--guidance-schedule",
        choices=GUIDANCE_SCHEDULES,
        default=SampleSettings.guidance_schedule,
        help="how guidance grows over the scales (default: %(default)s)",
    )
    group.add_argument(
        "--guidance-per-scale",
        metavar="LIST",
        default=SampleSettings.guidance_per_scale,
        help='parts of guidance scale by scale, in place of a schedule: "0, 0.5 x 2, 1 x ..."',
    )
    add("--top-k", SampleSettings.top_k, "tokens to choose from; 0 allows all")
    add("--top-p", SampleSettings.top_p, "total probability of the tokens to choose from")
    add("--temperature", SampleSettings.temperature, "spread of the choice among tokens")
    add("--ssg", SampleSettings.ssg, "push away from the scale before; to try out, 0.1 to 1")
    group.add_argument(
        "--smooth",
        action="store_true",
        help="means of likely tokens in place of single ones; to try out, not while top-k is 1",
    )
    add("--refine-steps", RefineSettings.steps, "diffusion steps of the refiner")
    add("--refine-strength", RefineSettings.strength, "factor on the detail of the refiner")
    add_coarse(group)


def _choices(arguments: Namespace) -> VARSRChoices:
    names = ("guidance", "guidance_schedule", "top_k", "top_p", "temperature")
    names += ("guidance_per_scale", "ssg", "smooth")
    coarse = coarse_choices(arguments)
    sampling = SampleSettings(**{name: getattr(arguments, name) for name in names})
    sampling = resolved_beside(coarse, sampling)
    steps, strength = arguments.refine_steps, arguments.refine_strength
    return VARSRChoices(sampling, RefineSettings(sampling.guidance, steps, strength), coarse)


def _check(weights: StateDict, choices: VARSRChoices) -> None:
    config = infer_config(weights)
    choices.sampling.check_scales(config.schedule)
    check_coarse(choices.coarse, config, weights[CODEBOOK].detach())


def _training() -> Any:
    from .training.kind import TRAINED

    return TRAINED


def _training_of_classes() -> Any:
    from .training.kind import CLASSES_TRAINED

    return CLASSES_TRAINED


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
    defaults=PAPER,
    restorer=_restorer,
    presets=PRESETS,
    add_to=_add_to,
    choices=_choices,
    check=_check,
    training={"varsr": _training, "varsr_c2i": _training_of_classes},
)
