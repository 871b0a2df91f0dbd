"""NSARM's files: which part of a model a group of tensors is, and how the parts make a model."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import CheckpointError
from ..family import Family, StateDict
from .model import check_weights, fix_dtype
from .release import AUTOENCODER_FILE, TRANSFORMER_FILE
from .row_scaled import pack
from .weights import convert

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


NSARM_FAMILY = Family("nsarm", "NSARM", COMPLETE, split, assemble, fix_dtype, pack)
