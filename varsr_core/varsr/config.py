"""Sizes of a VARSR model, read off its weights, and the constants the paper leaves no trace of."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CheckpointError
from ..family import count_numbered
from ..files.lazy_tensor import StateDict
from ..nn.schedule import ScaleSchedule, check_division, whole_numbers
from ..runtime.defaults import ModelDefaults

PAPER = ModelDefaults(guidance=6.0)  # for one tile
PAPER_C2I = ModelDefaults(guidance=4.0)  # of the class-to-image model
NORM_GROUPS = 32  # of the released tokenizer
LEAST_DEEP = 8  # pixels per token that a deep prefix has room for
# What the shapes of weights do not tell; beside them in our files. The second may be missing.
SIZE_TENSORS = ("schedule", "norm_groups")


@dataclass(frozen=True)
class TokenizerConfig:
    """The VQVAE; levels run from fine to coarse."""

    widths: tuple[int, ...]  # channels of each level
    encoder_blocks: int  # residual blocks a level
    decoder_blocks: int
    attention_levels: tuple[int, ...]  # levels with self-attention after each block
    latent_channels: int  # C
    codebook_size: int  # V
    phi_count: int  # smoothing convolutions shared by the scales
    # Groups of every GroupNorm. A group of one or two channels, as 32 are in a narrow model, would
    # norm away brightness and contrast.
    norm_groups: int = NORM_GROUPS

    def __post_init__(self) -> None:
        check_division("norm_groups", self.widths, self.norm_groups)

    @property
    def downsampling(self) -> int:
        """Pixels per token, along one side."""
        return 2 ** (len(self.widths) - 1)


@dataclass(frozen=True)
class TransformerConfig:
    width: int  # D
    depth: int
    heads: int
    mlp_width: int
    # Channels of the prefix encoder, one more after each stride; empty in the class-to-image model.
    prefix_widths: tuple[int, ...]
    # 0: high quality; the last one: low quality, the negative of guidance. In the class-to-image
    # model one for each label, and the last one: any picture.
    num_classes: int
    deep_prefix: int = 0  # residual-in-residual dense blocks beside the prefix encoder's layers

    def __post_init__(self) -> None:
        if not self.heads or self.width % self.heads or self.head_dim % 4:
            raise ValueError(f"width {self.width} does not divide into {self.heads} rotary heads")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def class_to_image(self) -> bool:
        """Whether it makes pictures of a class, out of nothing, in place of restoring one."""
        return not self.prefix_widths


@dataclass(frozen=True)
class RefinerConfig:
    width: int
    depth: int
    frequencies: int  # width of the sinusoidal time embedding


@dataclass(frozen=True)
class VARSRConfig:
    tokenizer: TokenizerConfig
    transformer: TransformerConfig
    refiner: RefinerConfig
    schedule: ScaleSchedule

    def __post_init__(self) -> None:
        prefix_downsampling = 2 ** (len(self.transformer.prefix_widths) - 1)
        fits = prefix_downsampling == self.tokenizer.downsampling
        if not fits and not self.transformer.class_to_image:
            raise ValueError(
                f"the prefix has {prefix_downsampling} pixels per token, "
                f"the tokenizer {self.tokenizer.downsampling}; they come from different models"
            )
        if self.transformer.deep_prefix and prefix_downsampling < LEAST_DEEP:
            raise ValueError(
                f"a deep prefix needs {LEAST_DEEP} pixels per token or more, the prefix has "
                f"{prefix_downsampling}"
            )
        self.schedule.check_tile(self.tokenizer.downsampling)

    @property
    def tile_size(self) -> int:
        """Side of the one picture size the model knows, in pixels."""
        return self.schedule.final_side * self.tokenizer.downsampling

    @property
    def prefix_tokens(self) -> int:
        """Tokens of the low-quality picture, without the class token."""
        return 0 if self.transformer.class_to_image else self.last_tokens

    @property
    def last_tokens(self) -> int:
        """Tokens of the last map."""
        return self.schedule.final_side**2


def infer_config(weights: StateDict) -> VARSRConfig:
    """Reads every size off converted weights (names as in `weights.py`)."""
    try:
        return VARSRConfig(
            tokenizer=_tokenizer(weights),
            transformer=_transformer(weights),
            refiner=_refiner(weights),
            schedule=ScaleSchedule(whole_numbers(weights, "schedule", 1)),
        )
    except KeyError as error:
        raise CheckpointError(f"the VARSR weights lack the tensor {error}") from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"the VARSR weights have impossible sizes: {error}") from None


def _tokenizer(weights: StateDict) -> TokenizerConfig:
    levels = count_numbered(weights, "encoder.down.{}.blocks.0.conv1.weight")
    return TokenizerConfig(
        widths=tuple(
            weights[f"encoder.down.{i}.blocks.0.conv1.weight"].shape[0] for i in range(levels)
        ),
        encoder_blocks=count_numbered(weights, "encoder.down.0.blocks.{}.conv1.weight"),
        decoder_blocks=count_numbered(weights, "decoder.up.0.blocks.{}.conv1.weight"),
        attention_levels=tuple(
            i for i in range(levels) if f"encoder.down.{i}.attentions.0.qkv.weight" in weights
        ),
        latent_channels=weights["encoder.conv_out.weight"].shape[0],
        codebook_size=weights["quantizer.codebook.weight"].shape[0],
        phi_count=count_numbered(weights, "quantizer.phi.{}.weight"),
        norm_groups=whole_numbers(weights, "norm_groups", 0)[0]
        if "norm_groups" in weights
        else NORM_GROUPS,
    )


def _transformer(weights: StateDict) -> TransformerConfig:
    # Its many classes are not folded into tables; see weights.py.
    class_to_image = "transformer.blocks.0.modulation.linear.weight" in weights
    return TransformerConfig(
        width=weights["word_embed.weight"].shape[0],
        depth=count_numbered(weights, "transformer.blocks.{}.qkv.weight"),
        heads=weights["transformer.blocks.0.query_scale.weight"].shape[0],
        mlp_width=weights["transformer.blocks.0.fc1.weight"].shape[0],
        prefix_widths=() if class_to_image else _prefix_widths(weights),
        num_classes=weights["transformer.class_embedding.weight"].shape[0],
        deep_prefix=_deep_prefix(weights),
    )


def _prefix_widths(weights: StateDict) -> tuple[int, ...]:
    convolutions = count_numbered(weights, "prefix_encoder.blocks.{}.weight")
    return (
        weights["prefix_encoder.conv_in.weight"].shape[0],
        *(weights[f"prefix_encoder.blocks.{i}.weight"].shape[0] for i in range(1, convolutions, 2)),
    )


def _deep_prefix(weights: StateDict) -> int:
    deep = "prefix_encoder.deep"
    if f"{deep}.conv_in.weight" not in weights:
        return 0
    return count_numbered(weights, deep + ".blocks.{}.blocks.0.convolutions.0.weight")


def _refiner(weights: StateDict) -> RefinerConfig:
    width, frequencies = weights["refiner.time_embed.0.weight"].shape
    return RefinerConfig(
        width=width,
        depth=count_numbered(weights, "refiner.blocks.{}.modulation.weight"),
        frequencies=frequencies,
    )
