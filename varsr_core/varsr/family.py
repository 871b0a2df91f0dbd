"""VARSR's files: which part of a model a group of tensors is, and how the parts make a model."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import CheckpointError
from ..family import Family, StateDict
from .weights import check_weights, convert, fix_dtype

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


VARSR_FAMILY = Family("varsr", "VARSR", COMPLETE, split, assemble, fix_dtype)
