"""From the released tensors to ours: a rename table, three foldings, a list of what is dropped.

Conversion is a pure function of dictionaries. What is folded away: the modulation layers (with a
batch of classes they are small tables; a third of the weights), the three parts of the qkv bias,
the learned attention scale's exponential. q and k channels are reordered so that rotary pairs lie
half a head apart (see rope.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from ..family import check_fit
from .config import SIZE_TENSORS, VARSRConfig, infer_config
from .model import VARSR
from .transformer import AttentionFn, attention

StateDict = dict[str, Tensor]

MAX_QUERY_SCALE = math.log(100.0)

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

RENAMED = (  # pattern of a released name -> ours; the first that matches whole counts
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

# Small tensors whose arithmetic is float32 whatever the dtype of the model.
FLOAT32 = re.compile(
    r"quantizer\..*|transformer\.\w+_embedding\.weight|transformer\.head_modulation\.weight"
    r"|transformer\.blocks\.\d+\.(modulation|query_scale)\.weight"
    r"|refiner\.(blocks\.\d+\.norm|condition_norm)\..*"
)


def convert(reference: Mapping[str, Tensor]) -> StateDict:
    """Tokenizer, transformer and refiner under the released names -> ours.

    Renamed tensors are passed on as they are (mapped ones stay mapped). Raises CheckpointError for
    a name that is neither known nor on the list of dropped ones.
    """
    converted: StateDict = {}
    unknown = []
    for name, tensor in reference.items():
        if _matches(name, FOLDED) or _matches(name, DROPPED):
            continue
        ours = rename(name)
        if ours is None:
            unknown.append(name)
        else:
            converted[ours] = tensor
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} tensors are unknown to VARSR, e.g. {', '.join(sorted(unknown)[:3])}; "
            "this is another model, or a newer release than this one knows"
        )
    try:
        converted |= _folded(reference)
    except KeyError as error:
        raise CheckpointError(f"the VARSR checkpoint lacks the tensor {error}") from None
    return converted


def rename(name: str) -> str | None:
    """Our name of a released tensor that is kept as it is; None where there is none."""
    for pattern, ours in RENAMED:
        match = re.fullmatch(pattern, name)
        if match:
            renamed = match.expand(ours)
            for theirs, part in RENAMED_PARTS:
                renamed = renamed.replace(theirs, part)
            return renamed
    return None


def _matches(name: str, patterns: Mapping[str, str] | Sequence[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _folded(reference: Mapping[str, Tensor]) -> StateDict:
    positions = reference["pos_start"][0]
    classes = F.silu(reference["class_emb.weight"].float())
    folded = {
        "schedule": _schedule(reference["lvl_1L"], positions.shape[0]),
        "transformer.position_embedding.weight": positions,
        "transformer.head_modulation.weight": _table(reference, "head_nm", classes),
    }
    depth = 0
    while f"blocks.{depth}.attn.mat_qkv.weight" in reference:
        theirs, ours = f"blocks.{depth}", f"transformer.blocks.{depth}"
        scale = reference[f"{theirs}.attn.scale_mul_1H11"].flatten().float()
        weight, bias = _qkv(reference, f"{theirs}.attn", heads=scale.numel())
        folded |= {
            f"{ours}.query_scale.weight": scale.clamp(max=MAX_QUERY_SCALE).exp(),
            f"{ours}.qkv.weight": weight,
            f"{ours}.qkv.bias": bias,
            f"{ours}.modulation.weight": _table(reference, theirs, classes),
        }
        depth += 1
    return folded


def _table(reference: Mapping[str, Tensor], layer: str, classes: Tensor) -> Tensor:
    """The modulation of every class at once: (classes, outputs) float32."""
    weight = reference[f"{layer}.ada_lin.1.weight"].float()
    return F.linear(classes, weight, reference[f"{layer}.ada_lin.1.bias"].float())


def _qkv(reference: Mapping[str, Tensor], layer: str, heads: int) -> tuple[Tensor, Tensor]:
    weight = reference[f"{layer}.mat_qkv.weight"]
    q_bias, v_bias = reference[f"{layer}.q_bias"], reference[f"{layer}.v_bias"]
    bias = torch.cat((q_bias, torch.zeros_like(q_bias), v_bias))
    width = weight.shape[1]
    channels = torch.arange(width).view(heads, -1)
    # Pairs (0, 1), (2, 3), ... of a head become (0, n), (1, n + 1), ... with n half a head.
    paired = torch.cat((channels[:, 0::2], channels[:, 1::2]), dim=1).flatten()
    order = torch.cat((paired, paired + width, torch.arange(2 * width, 3 * width)))
    return weight[order], bias[order]


def _schedule(levels: Tensor, prefix_positions: int) -> Tensor:
    """Sides of the scales, from the buffer that numbers each position with its scale."""
    counts = levels.flatten().bincount()
    counts[0] -= prefix_positions - 1  # scale 0 also counts the prefix; its one token is the class
    sides = counts.double().sqrt().round().long()
    if not torch.equal(sides * sides, counts):
        raise CheckpointError(f"lvl_1L counts {counts.tolist()} tokens a scale, not squares")
    return sides


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Refuses converted weights with a tensor too many, too few or of the wrong shape."""
    with torch.device("meta"):
        model = VARSR(infer_config(weights))
    learned = {name: tensor for name, tensor in weights.items() if name not in SIZE_TENSORS}
    check_fit("VARSR", model, learned)


def fix_dtype(name: str, tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype a tensor of ours has in a model or a file of `dtype`."""
    if not tensor.is_floating_point():
        return tensor.dtype
    return torch.float32 if FLOAT32.fullmatch(name) else dtype


def build_model(
    weights: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,
    attention: AttentionFn = attention,
    operations: ModuleType = nn,
    fingerprint: str = "",
) -> VARSR:
    """A model from converted weights, strictly: nothing missing, nothing left over.

    Tensors that have the right dtype already are used as they are, mapped ones without a copy.
    """
    # float16 overflows in the decoders of such tokenizers and turns pictures black.
    tokenizer_dtype = torch.float32 if dtype == torch.float16 else dtype
    with torch.device("meta"):
        model = VARSR(
            infer_config(weights),
            dtype=dtype,
            tokenizer_dtype=tokenizer_dtype,
            attention=attention,
            operations=operations,
            fingerprint=fingerprint,
        )
    tokenizer = ("encoder.", "decoder.", "pre_quantizer.", "post_quantizer.")
    state = {
        name: tensor.to(
            fix_dtype(name, tensor, tokenizer_dtype if name.startswith(tokenizer) else dtype)
        )
        for name, tensor in weights.items()
        if name not in SIZE_TENSORS
    }
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def sized_weights(model: VARSR) -> dict[str, Tensor]:
    """All that a file of a model holds: its weights, and the sizes that they do not tell."""
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return weights | size_tensors(model.config)


def size_tensors(config: VARSRConfig) -> dict[str, Tensor]:
    """What the shapes of weights do not tell."""
    sizes = (config.schedule.sides, config.tokenizer.norm_groups)
    return {name: torch.tensor(size) for name, size in zip(SIZE_TENSORS, sizes, strict=True)}
