"""From the released tensors to ours: a rename table, three foldings, a list of what is dropped.

Conversion is a pure function of dictionaries. What is folded away: the modulation layers (with a
batch of classes they are small tables; a third of the weights), the three parts of the qkv bias,
the learned attention scale's exponential. The class-to-image model, with 3,831 classes, keeps its
modulation layers: tables of them would be larger. q and k channels are reordered so that rotary
pairs lie half a head apart (see rope.py).
"""

from __future__ import annotations

import re
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files.lazy_tensor import StateDict
from ..nn.weights import (
    WeightRules,
    autoencoder_dtype,
    behind_zeros,
    convert_names,
    matches,
    query_scale,
    rename,
    rotary_order,
)
from ..runtime.defaults import ModelDefaults
from .config import PAPER, PAPER_C2I, SIZE_TENSORS, VARSRConfig, infer_config
from .model import VARSR
from .transformer import AttentionFn, attention

DROPPED = {  # pattern of a released name -> why it is not kept
    r"attn_bias_for_masking": "the block-causal mask of training",
    r"quantize\.ema_vocab_hit_SV": "codebook usage statistics of training",
    r"blocks\.\d+\.attn\.zero_k_bias": "always zero",
}

FOLDED = (  # released names that are computed into ours
    r"lvl_1L",
    r"pos_start",
    r"blocks\.\d+\.attn\.(mat_qkv\.weight|q_bias|v_bias|scale_mul_1H11)",
    r"(blocks\.\d+|head_nm)\.ada_lin\.1\.(weight|bias)",
)
MODULATION = FOLDED[-1]
KEPT_MODULATION = (  # with the thousands of classes of the class-to-image model
    (r"blocks\.(\d+)\.ada_lin\.1\.(\w+)", r"transformer.blocks.\1.modulation.linear.\2"),
    (r"head_nm\.ada_lin\.1\.(\w+)", r"transformer.head_modulation.linear.\1"),
)

RENAMED = (
    (r"((?:en|de)coder)\.(down|up)\.(\d+)\.block\.(.+)", r"\1.\2.\3.blocks.\4"),
    (r"((?:en|de)coder)\.(down|up)\.(\d+)\.attn\.(.+)", r"\1.\2.\3.attentions.\4"),
    (r"((?:en|de)coder)\.(down|up)\.(\d+)\.(down|up)sample\.conv\.(.+)", r"\1.\2.\3.\4sample.\5"),
    (r"((?:en|de)coder)\.mid\.block_([12])\.(.+)", r"\1.middle.block\2.\3"),
    (r"((?:en|de)coder)\.mid\.attn_1\.(.+)", r"\1.middle.attention.\2"),
    (r"((?:en|de)coder\.(?:conv_in|norm_out|conv_out)\.\w+)", r"\1"),
    (r"quantize\.embedding\.weight", "quantizer.codebook.weight"),
    (r"quantize\.quant_resi\.qresi_ls\.(.+)", r"quantizer.phi.\1"),
    (r"quant_conv\.(\w+)", r"pre_quantizer.\1"),
    (r"post_quant_conv\.(\w+)", r"post_quantizer.\1"),
    (r"con_embedding\.(.+)", r"prefix_encoder.\1"),
    (r"(word_embed\.\w+)", r"\1"),
    (r"class_emb\.weight", "transformer.class_embedding.weight"),
    (r"lvl_embed\.weight", "transformer.scale_embedding.weight"),
    (r"blocks\.(\d+)\.attn\.proj\.(\w+)", r"transformer.blocks.\1.projection.\2"),
    (r"blocks\.(\d+)\.ffn\.(.+)", r"transformer.blocks.\1.\2"),
    (r"head\.(\w+)", r"transformer.head.\1"),
    (r"decoder_norm\.(\w+)", r"refiner.condition_norm.\1"),
    (r"diffloss\.net\.time_embed\.mlp\.(.+)", r"refiner.time_embed.\1"),
    (r"diffloss\.net\.cond_embed\.(\w+)", r"refiner.condition_embed.\1"),
    (r"diffloss\.net\.input_proj\.(\w+)", r"refiner.input_projection.\1"),
    (r"diffloss\.net\.res_blocks\.(\d+)\.in_ln\.(\w+)", r"refiner.blocks.\1.norm.\2"),
    (r"diffloss\.net\.res_blocks\.(\d+)\.mlp\.0\.(\w+)", r"refiner.blocks.\1.fc1.\2"),
    (r"diffloss\.net\.res_blocks\.(\d+)\.mlp\.2\.(\w+)", r"refiner.blocks.\1.fc2.\2"),
    (
        r"diffloss\.net\.res_blocks\.(\d+)\.adaLN_modulation\.1\.(\w+)",
        r"refiner.blocks.\1.modulation.\2",
    ),
    (r"diffloss\.net\.final_layer\.linear\.(\w+)", r"refiner.final.\1"),
    (r"diffloss\.net\.final_layer\.adaLN_modulation\.1\.(\w+)", r"refiner.final_modulation.\1"),
)

RENAMED_PARTS = (("nin_shortcut", "shortcut"), ("proj_out", "projection"))

RULES = WeightRules(
    title="VARSR",
    float32=re.compile(
        r"quantizer\..*|transformer\.\w+_embedding\.weight|transformer\.head_modulation\.weight"
        r"|transformer\.blocks\.\d+\.(modulation|query_scale)\.weight"
        r"|refiner\.(blocks\.\d+\.norm|condition_norm)\..*"
    ),
    autoencoder=("encoder.", "decoder.", "pre_quantizer.", "post_quantizer."),
    sizes=SIZE_TENSORS,
)
fix_dtype = RULES.fix_dtype


def convert(reference: StateDict) -> StateDict:
    """Tokenizer, transformer and refiner under the released names -> ours.

    Raises CheckpointError for a name that is neither known nor on the list of dropped ones.
    """
    folded = [name for name in FOLDED if name != MODULATION or not is_class_to_image(reference)]
    return convert_names(
        reference,
        RULES.title,
        rename=our_name,
        left_out=lambda name: matches(name, folded) or matches(name, DROPPED),
        fold=_folded,
    )


def is_class_to_image(reference: StateDict) -> bool:
    """Whether tensors under the released names are the class-to-image model's."""
    return "con_embedding.conv_in.weight" not in reference


def our_name(name: str) -> str | None:
    """Of a released tensor that is kept as it is, or None."""
    renamed = rename(name, (*RENAMED, *KEPT_MODULATION))
    for theirs, part in RENAMED_PARTS:
        renamed = renamed and renamed.replace(theirs, part)
    return renamed


def _folded(reference: StateDict) -> StateDict:
    positions = reference["pos_start"].detach()[0]
    folded = {
        "schedule": _schedule(reference["lvl_1L"].detach(), positions.shape[0]),
        "transformer.position_embedding.weight": positions,
    }
    if not is_class_to_image(reference):
        folded |= _tables(reference)
    depth = 0
    while f"blocks.{depth}.attn.mat_qkv.weight" in reference:
        theirs, ours = f"blocks.{depth}", f"transformer.blocks.{depth}"
        scale = query_scale(reference[f"{theirs}.attn.scale_mul_1H11"].detach())
        weight, bias = _qkv(reference, f"{theirs}.attn", heads=scale.numel())
        folded |= {
            f"{ours}.query_scale.weight": scale,
            f"{ours}.qkv.weight": weight,
            f"{ours}.qkv.bias": bias,
        }
        depth += 1
    return folded


def _tables(reference: StateDict) -> dict[str, Tensor]:
    """All modulation layers."""
    classes = F.silu(reference["class_emb.weight"].detach().float())
    tables = {"transformer.head_modulation.weight": _table(reference, "head_nm", classes)}
    depth = 0
    while f"blocks.{depth}.ada_lin.1.weight" in reference:
        table = _table(reference, f"blocks.{depth}", classes)
        tables[f"transformer.blocks.{depth}.modulation.weight"] = table
        depth += 1
    return tables


def _table(reference: StateDict, layer: str, classes: Tensor) -> Tensor:
    """The modulation of every class at once: (classes, outputs) float32."""
    weight, bias = (reference[f"{layer}.ada_lin.1.{part}"].detach() for part in ("weight", "bias"))
    return F.linear(classes, weight.float(), bias.float())


def _qkv(reference: StateDict, layer: str, heads: int) -> tuple[Tensor, Tensor]:
    names = ("mat_qkv.weight", "q_bias", "v_bias")
    weight, q_bias, v_bias = (reference[f"{layer}.{name}"].detach() for name in names)
    order = rotary_order(weight.shape[1], heads)
    return weight[order], torch.cat((q_bias, behind_zeros(v_bias)))[order]


def _schedule(levels: Tensor, prefix_positions: int) -> Tensor:
    """Sides of the scales, from the buffer that numbers each position with its scale."""
    levels = levels.flatten()
    if levels.is_floating_point() or levels.min() < 0 or levels.max() >= levels.numel():
        raise CheckpointError("lvl_1L does not number each position with its scale")
    counts = levels.bincount()
    counts[0] -= prefix_positions - 1  # scale 0 also counts the prefix; its one token is the class
    sides = counts.double().sqrt().round().long()
    if not torch.equal(sides * sides, counts):
        raise CheckpointError(f"lvl_1L counts {counts.tolist()} tokens a scale, not squares")
    return sides


def check_weights(weights: StateDict) -> None:
    """Refuses converted weights that are no numbers, too many, too few or of the wrong shape."""
    RULES.check_kinds(weights)
    config = infer_config(weights)
    RULES.check(lambda: VARSR(config), weights)


def build_model(
    weights: StateDict,
    *,
    dtype: torch.dtype = torch.float32,
    wide_dtype: torch.dtype = torch.float32,
    attention: AttentionFn = attention,
    operations: ModuleType = nn,
    fingerprint: str = "",
    defaults: ModelDefaults = PAPER,
) -> VARSR:
    """A model from converted weights, strictly: nothing missing, nothing left over."""
    config = infer_config(weights)
    if config.transformer.class_to_image and defaults == PAPER:
        defaults = PAPER_C2I

    def make() -> VARSR:
        return VARSR(
            config,
            dtype=dtype,
            tokenizer_dtype=autoencoder_dtype(dtype, wide_dtype),
            attention=attention,
            operations=operations,
            fingerprint=fingerprint,
            defaults=defaults,
        )

    return RULES.build(make, weights, dtype, wide_dtype)


def sized_weights(model: VARSR) -> dict[str, Tensor]:
    """All that a file of a model holds: its weights, and the sizes that they do not tell."""
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return weights | size_tensors(model.config)


def size_tensors(config: VARSRConfig) -> dict[str, Tensor]:
    """What the shapes of weights do not tell."""
    sizes = (config.schedule.sides, config.tokenizer.norm_groups)
    return {name: torch.tensor(size) for name, size in zip(SIZE_TENSORS, sizes, strict=True)}
