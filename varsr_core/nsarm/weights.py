"""From the released tensors to ours: a rename table, foldings, a list of what is dropped.

Folded away: the parts of the qkv and kv biases, the learned attention scale's exponential. q and k
channels are reordered so that rotary pairs lie half a head apart (see rope.py); these matrices are
a sixth of the model, so each is reordered only when it is wanted.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..files.lazy_tensor import LazyTensor, StateDict
from ..nn import map_network
from ..nn.weights import (
    WeightRules,
    behind_zeros,
    convert_names,
    matches,
    query_scale,
    rename,
    rotary_order,
)
from .config import SCHEDULE

DROPPED = {  # pattern of a released name -> why it is not kept
    r"quantizer?\.lfq\.mask": "powers of two",
    r"block_chunks\.\d+\.module\.\d+\.(sa|ca)\.zero_k_bias": "always zero",
    r"text_proj_for_sos\.ca\.zero_k_bias": "always zero",
}

BLOCK = re.compile(r"block_chunks\.(\d+)\.module\.(\d+)\.(.+)")

# Some autoencoder files wrap every layer in a `conv` or `norm`, some do not.
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

FOLDED = (
    r"sa\.(mat_qkv\.weight|q_bias|v_bias|scale_mul_1H11)",
    r"ca\.v_bias",
    r"ada_gss",
)
FOLDED_TOP = (r"pos_start", r"text_proj_for_sos\.ca\.(v_bias|mat_q)")

RULES = WeightRules(
    title="NSARM",
    float32=re.compile(  # the head, too
        r"transformer\.(start|scale_embedding|head)\..*"
        r"|transformer\.text\.(norm|unconditional)\..*"
        r"|transformer\.blocks\.\d+\.(modulation|query_scale|cross_norm|\w+\.scale)\..*"
    ),
    autoencoder=("vae.",),
    sizes=(SCHEDULE,),
    float8=re.compile(r"transformer\.blocks\.\d+\.\w+\.matrix\.weight"),
)


def convert(reference: StateDict) -> StateDict:
    """Autoencoder, map network and transformer under the released names -> ours.

    Raises CheckpointError for a name that is neither known nor on the list of dropped ones.
    """
    per_chunk = 1 + max((int(m[2]) for m in map(BLOCK.fullmatch, reference) if m), default=0)

    def left_out(name: str) -> bool:
        block = BLOCK.fullmatch(name)
        folded = matches(block[3], FOLDED) if block else matches(name, FOLDED_TOP)
        return folded or matches(name, DROPPED)

    return convert_names(
        reference,
        RULES.title,
        rename=lambda name: _rename(name, per_chunk),
        left_out=left_out,
        fold=lambda reference: _folded(reference, per_chunk),
    )


def _rename(name: str, per_chunk: int) -> str | None:
    """per_chunk: blocks in each chunk of the release"""
    block = BLOCK.fullmatch(name)
    if block:
        number = int(block[1]) * per_chunk + int(block[2])
        return rename(block[3], BLOCK_RENAMED, f"transformer.blocks.{number}.")
    if name.startswith("map_transformer."):
        return rename(name.removeprefix("map_transformer."), map_network.RENAMED, "maps.")
    return rename(name, RENAMED)


def _folded(reference: StateDict, per_chunk: int) -> StateDict:
    pooling = "text_proj_for_sos.ca"
    folded: dict[str, Tensor | LazyTensor] = {
        "transformer.start.weight": reference["pos_start"].detach().flatten(),
        "transformer.text.query.weight": reference[f"{pooling}.mat_q"].detach()[0],
        "transformer.text.kv.bias": behind_zeros(reference[f"{pooling}.v_bias"].detach()),
    }
    for name in reference:
        block = BLOCK.fullmatch(name)
        if block and block[3] == "ada_gss":
            theirs = name.removesuffix(".ada_gss")
            ours = f"transformer.blocks.{int(block[1]) * per_chunk + int(block[2])}"
            folded |= _folded_block(reference, theirs, ours)
    return folded


def _folded_block(reference: StateDict, theirs: str, ours: str) -> StateDict:
    scale = query_scale(reference[f"{theirs}.sa.scale_mul_1H11"].detach())
    weight, bias = _qkv(reference, f"{theirs}.sa", scale.numel())
    return {
        f"{ours}.modulation.weight": reference[f"{theirs}.ada_gss"].detach()[0, 0],
        f"{ours}.query_scale.weight": scale,
        f"{ours}.qkv.weight": weight,
        f"{ours}.qkv.bias": bias,
        f"{ours}.cross_kv.bias": behind_zeros(reference[f"{theirs}.ca.v_bias"].detach()),
    }


def _qkv(reference: StateDict, layer: str, heads: int) -> tuple[LazyTensor, Tensor]:
    names = ("mat_qkv.weight", "q_bias", "v_bias")
    weight, q_bias, v_bias = (reference[f"{layer}.{name}"].detach() for name in names)
    order = rotary_order(weight.shape[1], heads)
    bias = torch.cat((q_bias, behind_zeros(v_bias)))
    return LazyTensor(weight.shape, weight.dtype, lambda: weight[order]), bias[order]
