"""Sizes of an NSARM model, read off its weights, and the constants that leave no trace in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import CheckpointError
from ..family import count_numbered
from ..files.lazy_tensor import StateDict
from ..nn.map_network import MapConfig
from ..nn.schedule import ScaleSchedule, check_division, whole_numbers
from ..runtime.defaults import ModelDefaults

PATCH = 2  # cells of the latent along a side of a token
MAP_HEADS = (4, 4, 8, 8, 8, 12, 16)  # of the map network's branches
SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)  # of token maps; 64 is 1024 pixels
SCHEDULE = "schedule"  # tensor of other sides, in files of models that were trained with others
FORCED = len(MAP_HEADS)  # scales that the map network gives
PAPER = ModelDefaults(guidance=1.0)  # off


@dataclass(frozen=True)
class VAEConfig:
    """The BSQ autoencoder; levels run from fine to coarse."""

    widths: tuple[int, ...]
    encoder_blocks: int
    decoder_blocks: int
    latent_channels: int
    attention_levels: tuple[int, ...] = ()
    norm_groups: int = 32

    def __post_init__(self) -> None:
        check_division("group norms", self.widths, self.norm_groups)

    @property
    def downsampling(self) -> int:
        """Pixels per cell of the latent, along one side."""
        return 2 ** (len(self.widths) - 1)


@dataclass(frozen=True)
class TransformerConfig:
    """
    text_heads: of the pooling that makes one vector of the text
    packed:     whether the blocks' matrices are fp8 with a scale for each row
    """

    width: int
    depth: int
    heads: int
    mlp_width: int
    text_width: int
    text_heads: int
    levels: int  # rows of the scale embedding, of which the schedule uses the first
    packed: bool = False

    def __post_init__(self) -> None:
        check_division("heads", (self.width,), self.heads)
        check_division("heads of the text", (self.width,), self.text_heads)
        if self.head_dim % 4:
            raise ValueError(f"width {self.width} does not divide into {self.heads} rotary heads")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class NSARMConfig:
    vae: VAEConfig
    maps: MapConfig
    transformer: TransformerConfig
    schedule: ScaleSchedule = ScaleSchedule(SIDES)

    def __post_init__(self) -> None:
        self.schedule.check_tile(PATCH * self.vae.downsampling)
        scales, levels = self.schedule.num_scales, self.transformer.levels
        if not FORCED <= scales <= levels:
            raise ValueError(f"{scales} scales are not within {FORCED} and {levels}, the embedded")
        if len(self.maps.widths) != FORCED:
            raise ValueError(f"the map network has {len(self.maps.widths)} scales, not {FORCED}")
        for width, heads in zip(self.maps.widths, self.maps.heads, strict=True):
            check_division("the map network", (width,), heads)
        if self.tile_size % self.lq_size or self.vae.downsampling % self.reduction:
            raise ValueError(f"tiles of {self.tile_size} pixels are made of {self.lq_size} pixels")

    @property
    def bits(self) -> int:
        """Bits of a token."""
        return PATCH * PATCH * self.vae.latent_channels

    @property
    def final_cells(self) -> int:
        """Side of the latent, in cells."""
        return PATCH * self.schedule.final_side

    @property
    def tile_size(self) -> int:
        """Side of the picture it makes, in pixels."""
        return self.final_cells * self.vae.downsampling

    @property
    def lq_size(self) -> int:
        """Side of the low-quality picture it takes, in pixels."""
        return self.maps.side * self.vae.downsampling

    @property
    def reduction(self) -> int:
        """Pixels of the picture it makes, along a side, for each of the one that it takes."""
        return self.tile_size // self.lq_size


def infer_config(weights: StateDict, sides: tuple[int, ...] | None = None) -> NSARMConfig:
    """Reads every size off converted weights (names as in `weights.py`). Raises CheckpointError.

    sides: of the token maps; if None what the weights tell, else the released ones
    """
    try:
        if sides is None:
            sides = whole_numbers(weights, SCHEDULE, 1) if SCHEDULE in weights else SIDES
        transformer = replace(_transformer(plain_names(weights)), packed=is_packed(weights))
        return NSARMConfig(_vae(weights), _maps(weights), transformer, ScaleSchedule(sides))
    except KeyError as error:
        raise CheckpointError(f"the NSARM weights lack the tensor {error}") from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"the NSARM weights have impossible sizes: {error}") from None


def is_packed(weights: StateDict) -> bool:
    """Whether the blocks' matrices are in fp8, see row_scaled.py."""
    return any(".matrix." in name for name in weights)


def plain_names(weights: StateDict) -> StateDict:
    """The same under the names of a model that is not packed, for a look at sizes."""
    return {name.replace(".matrix.", "."): tensor for name, tensor in weights.items()}


def _vae(weights: StateDict) -> VAEConfig:
    levels = count_numbered(weights, "vae.encoder.down.{}.blocks.0.conv1.weight")
    return VAEConfig(
        widths=tuple(
            weights[f"vae.encoder.down.{i}.blocks.0.conv1.weight"].shape[0] for i in range(levels)
        ),
        encoder_blocks=count_numbered(weights, "vae.encoder.down.0.blocks.{}.conv1.weight"),
        decoder_blocks=count_numbered(weights, "vae.decoder.up.0.blocks.{}.conv1.weight"),
        latent_channels=weights["vae.encoder.conv_out.weight"].shape[0],
    )


def _maps(weights: StateDict) -> MapConfig:
    branches = count_numbered(weights, "maps.branches.{}.out.weight")
    first, second = (weights[f"maps.extractor.{i}.conv.weight"].shape[0] for i in range(2))
    return MapConfig(
        side=weights["maps.extractor.0.norm.weight"].shape[-1],
        extractor=(first, second),
        widths=tuple(
            weights[f"maps.branches.{i}.layers.0.qkv.weight"].shape[1] for i in range(branches)
        ),
        layers=tuple(
            count_numbered(weights, f"maps.branches.{i}.layers.{{}}.qkv.weight")
            for i in range(branches)
        ),
        heads=MAP_HEADS,
    )


def _transformer(weights: StateDict) -> TransformerConfig:
    query = weights["transformer.text.query.weight"]
    return TransformerConfig(
        width=weights["transformer.word_embed.weight"].shape[0],
        depth=count_numbered(weights, "transformer.blocks.{}.qkv.weight"),
        heads=weights["transformer.blocks.0.query_scale.weight"].shape[0],
        mlp_width=weights["transformer.blocks.0.fc1.weight"].shape[0],
        text_width=weights["transformer.text.norm.weight"].shape[0],
        text_heads=query.shape[0],
        levels=weights["transformer.scale_embedding.weight"].shape[0],
    )
