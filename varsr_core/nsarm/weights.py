"""From the released tensors to ours: a rename table, foldings, a list of what is dropped.

Folded away: the parts of the qkv and kv biases, the learned attention scale's exponential. q and k
channels are reordered so that rotary pairs lie half a head apart (see rope.py); these matrices are
a sixth of the model, so each is reordered only when it is wanted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files.lazy_tensor import LazyTensor
from .config import SCHEDULE

StateDict = dict[str, Tensor | LazyTensor]

MAX_QUERY_SCALE = math.log(100.0)

DROPPED = {  # pattern of a released name -> why it is not kept
    r"quantizer?\.lfq\.mask": "powers of two",
    r"block_chunks\.\d+\.module\.\d+\.(sa|ca)\.zero_k_bias": "always zero",
    r"text_proj_for_sos\.ca\.zero_k_bias": "always zero",
}

BLOCK = re.compile(r"block_chunks\.(\d+)\.module\.(\d+)\.(.+)")

# Patterns of a released name -> ours; the first that matches whole counts. Some autoencoder files
# wrap every layer in a `conv` or `norm`, some do not.
RENAMED = (
    (
        r"((?:en|de)coder)\.(down|up)\.(\d+)\.(?:down|up)sample\.conv\.(?:conv\.)?(\w+)",
        r"vae.\1.\2.\3.resample.\4",
    ),
    (
        r"((?:en|de)coder)\.(down|up)\.(\d+)\.block\.(\d+)\.nin_shortcut\.(?:conv\.)?(\w+)",
        r"vae.\1.\2.\3.blocks.\4.shortcut.\5",
    ),
    (
        r"((?:en|de)coder)\.(down|up)\.(\d+)\.block\.(\d+)\.(\w+)\.(?:conv\.|norm\.)?(\w+)",
        r"vae.\1.\2.\3.blocks.\4.\5.\6",
    ),
    (r"((?:en|de)coder)\.mid\.block_1\.(\w+)\.(?:conv\.|norm\.)?(\w+)", r"vae.\1.middle.0.\2.\3"),
    (r"((?:en|de)coder)\.mid\.block_2\.(\w+)\.(?:conv\.|norm\.)?(\w+)", r"vae.\1.middle.1.\2.\3"),
    (r"((?:en|de)coder)\.(conv_in|norm_out|conv_out)\.(?:conv\.|norm\.)?(\w+)", r"vae.\1.\2.\3"),
    (r"text_norm\.weight", "transformer.text.norm.weight"),
    (r"text_proj_for_sos\.ca\.mat_kv\.weight", "transformer.text.kv.weight"),
    (r"text_proj_for_sos\.ca\.proj\.(\w+)", r"transformer.text.projection.\1"),
    (r"text_proj_for_ca\.0\.(\w+)", r"transformer.text.fc1.\1"),
    (r"text_proj_for_ca\.2\.(\w+)", r"transformer.text.fc2.\1"),
    (r"cfg_uncond", "transformer.text.unconditional.weight"),
    (SCHEDULE, SCHEDULE),
    (r"lvl_embed\.weight", "transformer.scale_embedding.weight"),
    (r"(word_embed|head)\.(\w+)", r"transformer.\1.\2"),
    (r"shared_ada_lin\.1\.(\w+)", r"transformer.shared_modulation.\1"),
    (r"head_nm\.ada_lin\.1\.(\w+)", r"transformer.head_modulation.\1"),
)

BLOCK_RENAMED = (
    (r"sa\.proj\.(\w+)", r"projection.\1"),
    (r"ca\.mat_q\.(\w+)", r"cross_query.\1"),
    (r"ca\.mat_kv\.weight", "cross_kv.weight"),
    (r"ca\.proj\.(\w+)", r"cross_projection.\1"),
    (r"ca_norm\.(\w+)", r"cross_norm.\1"),
    (r"ffn\.(fc[12])\.(\w+)", r"\1.\2"),
)

MAP_LAYER_RENAMED = (
    (r"self_attn\.in_proj_(\w+)", r"qkv.\1"),
    (r"self_attn\.out_proj\.(\w+)", r"projection.\1"),
    (r"linear([12])\.(\w+)", r"fc\1.\2"),
    (r"(norm[12]\.\w+)", r"\1"),
)

FOLDED = (
    r"sa\.(mat_qkv\.weight|q_bias|v_bias|scale_mul_1H11)",
    r"ca\.v_bias",
    r"ada_gss",
)
FOLDED_TOP = (r"pos_start", r"text_proj_for_sos\.ca\.(v_bias|mat_q)")

# Small tensors, and the head, whose arithmetic is float32 whatever the dtype of the model.
FLOAT32 = re.compile(
    r"transformer\.(start|scale_embedding|head)\..*|transformer\.text\.(norm|unconditional)\..*"
    r"|transformer\.blocks\.\d+\.(modulation|query_scale|cross_norm|\w+\.scale)\..*"
)


def convert(reference: Mapping[str, Tensor]) -> StateDict:
    """Autoencoder, map network and transformer under the released names -> ours.

    Raises CheckpointError for a name that is neither known nor on the list of dropped ones.
    """
    per_chunk = 1 + max((int(m[2]) for m in map(BLOCK.fullmatch, reference) if m), default=0)
    converted: StateDict = {}
    unknown = []
    for name, tensor in reference.items():
        if _matches(name, DROPPED) or _matches(name, FOLDED_TOP):
            continue
        block = BLOCK.fullmatch(name)
        if block and _matches(block[3], FOLDED):
            continue
        ours = rename(name, per_chunk)
        if ours is None:
            unknown.append(name)
        else:
            converted[ours] = tensor
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} tensors are unknown to NSARM, e.g. {', '.join(sorted(unknown)[:3])}; "
            "this is another model, or a newer release than this one knows"
        )
    try:
        return converted | _folded(reference, per_chunk)
    except KeyError as error:
        raise CheckpointError(f"the NSARM checkpoint lacks the tensor {error}") from None


def rename(name: str, per_chunk: int) -> str | None:
    """Our name of a released tensor that is kept as it is; None where there is none.

    per_chunk: blocks in each chunk of the release
    """
    block = BLOCK.fullmatch(name)
    if block:
        number = int(block[1]) * per_chunk + int(block[2])
        return _first(BLOCK_RENAMED, block[3], f"transformer.blocks.{number}.")
    if name.startswith("map_transformer."):
        return _rename_map(name.removeprefix("map_transformer."))
    return _first(RENAMED, name)


def _rename_map(name: str) -> str | None:
    kind, first, *rest = name.split(".")
    tail = ".".join(rest)
    if kind == "feature_extractor":  # convolution, norm and activation count on together
        return f"maps.extractor.{int(first) // 3}.{('conv', 'norm')[int(first) % 3]}.{tail}"
    branch = f"maps.branches.{first}"
    if kind == "feature_transforms":
        number, tail = int(rest[0]), ".".join(rest[1:])
        return f"{branch}.features.{number // 3}.{('conv', 'norm')[number % 3]}.{tail}"
    if kind == "transformers":  # layers.<i>.<name>
        return _first(MAP_LAYER_RENAMED, ".".join(rest[2:]), f"{branch}.layers.{rest[1]}.")
    part = {"0": "narrow", "1": "norm", "3": "out"}.get(rest[0])
    return f"{branch}.{part}.{rest[1]}" if kind == "output_projs" and part else None


def _first(table: tuple[tuple[str, str], ...], name: str, prefix: str = "") -> str | None:
    for pattern, ours in table:
        match = re.fullmatch(pattern, name)
        if match:
            return prefix + match.expand(ours)
    return None


def _matches(name: str, patterns: Mapping[str, str] | tuple[str, ...]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _folded(reference: Mapping[str, Tensor], per_chunk: int) -> StateDict:
    pooling = "text_proj_for_sos.ca"
    folded = {
        "transformer.start.weight": reference["pos_start"].flatten(),
        "transformer.text.query.weight": reference[f"{pooling}.mat_q"][0],
        "transformer.text.kv.bias": _behind_zeros(reference[f"{pooling}.v_bias"]),
    }
    for name in reference:
        block = BLOCK.fullmatch(name)
        if block and block[3] == "ada_gss":
            theirs = name.removesuffix(".ada_gss")
            ours = f"transformer.blocks.{int(block[1]) * per_chunk + int(block[2])}"
            folded |= _folded_block(reference, theirs, ours)
    return folded


def _folded_block(reference: Mapping[str, Tensor], theirs: str, ours: str) -> StateDict:
    scale = reference[f"{theirs}.sa.scale_mul_1H11"].flatten().float()
    weight, bias = _qkv(reference, f"{theirs}.sa", scale.numel())
    return {
        f"{ours}.modulation.weight": reference[f"{theirs}.ada_gss"][0, 0],
        f"{ours}.query_scale.weight": scale.clamp(max=MAX_QUERY_SCALE).exp(),
        f"{ours}.qkv.weight": weight,
        f"{ours}.qkv.bias": bias,
        f"{ours}.cross_kv.bias": _behind_zeros(reference[f"{theirs}.ca.v_bias"]),
    }


def _behind_zeros(values: Tensor) -> Tensor:
    """Keys have no bias."""
    return torch.cat((torch.zeros_like(values), values))


def _qkv(reference: Mapping[str, Tensor], layer: str, heads: int) -> tuple[LazyTensor, Tensor]:
    weight, q_bias = reference[f"{layer}.mat_qkv.weight"], reference[f"{layer}.q_bias"]
    bias = torch.cat((q_bias, _behind_zeros(reference[f"{layer}.v_bias"])))
    order = _rotary_order(weight.shape[1], heads)
    return LazyTensor(weight.shape, weight.dtype, lambda: weight[order]), bias[order]


def _rotary_order(width: int, heads: int) -> Tensor:
    """Pairs (0, 1), (2, 3), ... of a head become (0, n), (1, n + 1), ... with n half a head."""
    channels = torch.arange(width).view(heads, -1)
    paired = torch.cat((channels[:, 0::2], channels[:, 1::2]), dim=1).flatten()
    return torch.cat((paired, paired + width, torch.arange(2 * width, 3 * width)))
