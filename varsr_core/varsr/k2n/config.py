"""Sizes of a K2N model, read off its weights, and what leaves no trace in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...family import count_numbered
from ...files.lazy_tensor import StateDict
from ...nn.map_network import MapConfig
from ...nn.schedule import check_division, whole_numbers
from ..config import NORM_GROUPS

REDUCTION = 4  # pixels of a tile, along a side, for one of the picture that K2N sees
GUIDANCE = 9.0  # published with it, at the last scale
USUAL_SCALES = 3  # published
SIDES: tuple[int, ...] = (1, 2, 3, 4, 6)  # of the released branches
HEADS, WIDE_HEADS, WIDE = 8, 16, 1728  # of those, where no configuration tells: 16 at that width

# What the shapes of weights do not tell; beside them in our files. The last three may be missing.
SIZE_TENSORS = ("sides", "heads", "vae_sha256", "codebook", "other_codebook")


@dataclass(frozen=True)
class EncoderConfig:
    """As of VARSR's tokenizer; levels run from fine to coarse."""

    widths: tuple[int, ...]
    encoder_blocks: int
    attention_levels: tuple[int, ...]
    latent_channels: int
    norm_groups: int = NORM_GROUPS
    decoder_blocks: int = 0

    def __post_init__(self) -> None:
        check_division("group norms", self.widths, self.norm_groups)

    @property
    def downsampling(self) -> int:
        """Pixels per cell, along one side."""
        return 2 ** (len(self.widths) - 1)


@dataclass(frozen=True)
class K2NConfig:
    """
    maps:     of the network that gives the maps; `maps.side` is that of VARSR's latent
    sides:    of the maps that it gives, in tokens
    codebook: sha256 of the codebook it was made for, where that is known
    other_codebook: of one that is known not to be that
    """

    encoder: EncoderConfig
    maps: MapConfig
    sides: tuple[int, ...]
    codebook: bytes = b""
    other_codebook: bytes = b""

    def __post_init__(self) -> None:
        if len(self.sides) != len(self.maps.widths):
            raise ValueError(f"{len(self.maps.widths)} branches have {len(self.sides)} sides")
        if list(self.sides) != sorted(set(self.sides)) or not self.sides[0] > 0:
            raise ValueError(f"sides {self.sides} do not grow")
        if self.sides[-1] > self.maps.side:
            raise ValueError(f"a map of side {self.sides[-1]} is larger than {self.maps.side}")
        for width, heads in zip(self.maps.widths, self.maps.heads, strict=True):
            if heads < 1:
                raise ValueError(f"{heads} heads")
            check_division("heads", (width,), heads)

    @property
    def scales(self) -> int:
        """How many maps it gives."""
        return len(self.sides)


def infer_config(weights: StateDict) -> K2NConfig:
    """Reads every size off converted weights (names as in `weights.py`)."""
    try:
        notes = {name: digest(weights, name) for name in ("codebook", "other_codebook")}
        sides = whole_numbers(weights, "sides", 1)
        return K2NConfig(_encoder(weights), _maps(weights), sides, **notes)
    except KeyError as error:
        raise CheckpointError(f"the K2N weights lack the tensor {error}") from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"the K2N weights have impossible sizes: {error}") from None


def _encoder(weights: StateDict) -> EncoderConfig:
    levels = count_numbered(weights, "encoder.down.{}.blocks.0.conv1.weight")
    first = (f"encoder.down.{i}" for i in range(levels))
    return EncoderConfig(
        widths=tuple(weights[f"{level}.blocks.0.conv1.weight"].shape[0] for level in first),
        encoder_blocks=count_numbered(weights, "encoder.down.0.blocks.{}.conv1.weight"),
        attention_levels=tuple(
            i for i in range(levels) if f"encoder.down.{i}.attentions.0.qkv.weight" in weights
        ),
        latent_channels=weights["encoder.conv_out.weight"].shape[0],
    )


def _maps(weights: StateDict) -> MapConfig:
    branches = count_numbered(weights, "maps.branches.{}.out.weight")
    first, second = (weights[f"maps.extractor.{i}.conv.weight"].shape[0] for i in range(2))
    numbers = range(branches)
    return MapConfig(
        side=weights["maps.extractor.0.norm.weight"].shape[-1],
        extractor=(first, second),
        widths=tuple(weights[f"maps.branches.{i}.layers.0.qkv.weight"].shape[1] for i in numbers),
        layers=tuple(
            count_numbered(weights, f"maps.branches.{i}.layers.{{}}.qkv.weight") for i in numbers
        ),
        heads=whole_numbers(weights, "heads", 1),
    )


def told_scales(plain: Mapping[str, Any], widths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Sides and heads of branches of these widths, from the configuration in a release.

    Where none tells, those of the released model.
    """
    found = _scales(plain.get("config"), len(widths))
    heads = [WIDE_HEADS if width == WIDE else HEADS for width in widths]
    sides: list[int] = list(SIDES[: len(widths)])
    for number, scale in enumerate(found):
        heads[number] = int(scale.get("heads", heads[number]))
        sides[number] = int(scale.get("patch_size", sides[number]))
    return sides, heads


def _scales(config: Any, count: int) -> list[Mapping[str, Any]]:
    """`reconstructor.scales` of a configuration, where it is of so many branches."""
    part = config.get("reconstructor", config) if isinstance(config, Mapping) else None
    scales = part.get("scales") if isinstance(part, Mapping) else None
    if not isinstance(scales, Sequence) or len(scales) < count:
        return []
    return [scale for scale in scales[:count] if isinstance(scale, Mapping)]


def digest(weights: StateDict, name: str) -> bytes:
    """A sha256 that is kept among the weights, or nothing."""
    return bytes(whole_numbers(weights, name, 1)) if name in weights else b""


def digest_tensor(digest: bytes) -> Tensor:
    return torch.tensor(list(digest), dtype=torch.int64)
