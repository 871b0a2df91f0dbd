"""From the released tensors of K2N to ours, in both forms that a release may have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import ModuleType

import torch
from torch import Tensor, nn

from ...errors import CheckpointError
from ...family import count_numbered
from ...files.lazy_tensor import StateDict
from ...files.tensors import Group
from ...nn.map_network import RENAMED
from ...nn.weights import RenameTable, WeightRules, convert_names, matches, rename
from ..weights import our_name
from .config import SIZE_TENSORS, digest_tensor, infer_config, told_scales
from .model import K2N

COMPLETE, RECONSTRUCTOR, ENCODER, QUANT, TOLD = (
    "K2N model", "reconstructor", "encoder of K2N", "convolution behind K2N's encoder",
    "sizes of K2N",
)  # fmt: skip

# Keys of the dictionaries in a release: of today's form, and of the older one.
PARTS = {
    "reconstructor": RECONSTRUCTOR,
    "transformation": RECONSTRUCTOR,
    "lr_encoder": ENCODER,
    "vae_student_encoder": ENCODER,
    "lr_quant_conv": QUANT,
    "vae_student_quant_conv": QUANT,
}
OWN_NAMES = re.compile(
    r"(?:map_transformer\.)?(?:base\.)?feature_extractor\.0\.weight|feature_residual_scale"
)
IGNORED = (r"vae_student\..*",)  # a copy of the encoder, in the older form

OLDER = re.compile(r"^map_transformer\.(?:base\.)?")
TODAYS: RenameTable = (  # names of today's form -> of the older one, which the map network knows
    (r"branches\.(\d+)\.feature_transform\.(.+)", r"feature_transforms.\1.\2"),
    (r"branches\.(\d+)\.transformer\.(.+)", r"transformers.\1.\2"),
    (r"branches\.(\d+)\.output_projection\.(.+)", r"output_projs.\1.\2"),
)
SCALES: RenameTable = (
    (r"input_residual_scale|alpha_input", "input_scale.weight"),
    (r"feature_residual_scale|alpha_feat", "feature_scale.weight"),
)

RULES = WeightRules(
    title="K2N",
    float32=re.compile(r"(input|feature)_scale\.weight"),
    autoencoder=("encoder.", "pre_quantizer."),
    sizes=SIZE_TENSORS,
)
fix_dtype = RULES.fix_dtype


def split(group: StateDict) -> dict[str, StateDict]:
    """Parts of K2N in a group of named tensors, converted or as released."""
    if "input_scale.weight" in group and "maps.extractor.0.conv.weight" in group:
        return {COMPLETE: group}
    if not isinstance(group, Group) or group.key not in PARTS:
        return {}
    part = PARTS[group.key]
    if part != RECONSTRUCTOR:
        return {part: group}
    if not any(OWN_NAMES.fullmatch(name) for name in group):
        return {}
    names = {OLDER.sub("", name): t for name, t in group.items() if not matches(name, IGNORED)}
    return {part: names, TOLD: _told(group.plain, names)}


def _told(plain: Mapping[str, object], names: StateDict) -> StateDict:
    """What a release says beside its tensors."""
    widths, count = [], 0
    norms = ("branches.{}.transformer", "transformers.{}")
    while any(f"{norm.format(count)}.layers.0.norm1.weight" in names for norm in norms):
        found = (names.get(f"{norm.format(count)}.layers.0.norm1.weight") for norm in norms)
        widths.append(next(norm.shape[0] for norm in found if norm is not None))
        count += 1
    sides, heads = told_scales(plain, widths)
    told = {"sides": torch.tensor(sides), "heads": torch.tensor(heads)}
    sha256 = plain.get("vae_sha256")
    if isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        told["vae_sha256"] = digest_tensor(bytes.fromhex(sha256))
    return told if widths else {}


def assemble(parts: Mapping[str, StateDict]) -> StateDict:
    """A whole K2N model under our names, checked."""
    weights = parts[COMPLETE] if COMPLETE in parts else _convert(parts)
    check_weights(weights)
    return weights


def _convert(parts: Mapping[str, StateDict]) -> StateDict:
    for part in (RECONSTRUCTOR, ENCODER, QUANT):
        if part not in parts:
            raise CheckpointError(f"this K2N file lacks the {part}; download K2NSR.pth again")
    encoder = {f"encoder.{name}": tensor for name, tensor in parts[ENCODER].items()}
    convolution = {f"quant_conv.{name}": tensor for name, tensor in parts[QUANT].items()}
    weights = convert_names(
        {**parts[RECONSTRUCTOR], **encoder, **convolution},
        RULES.title,
        rename=_rename,
        left_out=lambda name: rename(name, SCALES) is not None,
        fold=_scales,
    )
    return {**weights, **parts[TOLD]}


def _rename(name: str) -> str | None:
    older = rename(name, TODAYS) or name
    return rename(older, RENAMED, "maps.") or our_name(name)


def _scales(reference: StateDict) -> StateDict:
    """One number a branch, whatever its shape was."""
    found = {
        ours: reference[name].detach().flatten()
        for name in reference
        if (ours := rename(name, SCALES)) is not None
    }
    for name in ("input_scale.weight", "feature_scale.weight"):
        if name not in found:
            raise KeyError(name)
    return found


def check_weights(weights: StateDict) -> None:
    """Refuses converted weights that are no numbers, too many, too few or of the wrong shape."""
    RULES.check_kinds(weights)
    config = infer_config(weights)
    RULES.check(lambda: K2N(config), weights)


def build_model(
    weights: StateDict,
    *,
    operations: ModuleType = nn,
    fingerprint: str = "",
    **options: object,
) -> K2N:
    """A model in float32 from converted weights, strictly: nothing missing, nothing left over.

    options: of other kinds' networks; nothing here depends on them
    """
    config = infer_config(weights)

    def make() -> K2N:
        return K2N(config, operations=operations, fingerprint=fingerprint)

    return RULES.build(make, weights, torch.float32, torch.float32)


def first_scales(weights: StateDict, scales: int) -> dict[str, Tensor]:
    """The weights of a model that gives only the first `scales` maps. Raises CheckpointError."""
    there = count_numbered(weights, "maps.branches.{}.out.weight")
    if not 0 < scales <= there:
        raise CheckpointError(f"the K2N file gives {there} scales, {scales} are asked for")
    kept = {}
    for name, tensor in weights.items():
        branch = re.match(r"maps\.branches\.(\d+)\.", name)
        if branch is None or int(branch[1]) < scales:
            short = name in ("sides", "heads", "input_scale.weight", "feature_scale.weight")
            kept[name] = tensor.detach()[:scales] if short else tensor
    return kept
