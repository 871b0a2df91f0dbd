"""Encoder and decoder of a convolutional autoencoder, the kind that latent diffusion uses.

GroupNorm, SiLU, 3x3 convolutions; where a family has it, single-head attention at coarse levels and
in the middle. A family says what differs in its own file, by subclasses.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..tiling.grid import TileGrid
from ..tiling.group_norm import NormFn, own_norm
from .layer_list import LayerList

NORM_EPS = 1e-6


class AutoencoderConfig(Protocol):
    """What a family's configuration tells; levels run from fine to coarse.

    widths:           channels of each level
    encoder_blocks, decoder_blocks: residual blocks of each level
    attention_levels: levels with self-attention behind each block
    """

    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def encoder_blocks(self) -> int: ...
    @property
    def decoder_blocks(self) -> int: ...
    @property
    def attention_levels(self) -> tuple[int, ...]: ...
    @property
    def latent_channels(self) -> int: ...
    @property
    def norm_groups(self) -> int: ...


def activate(normed: Tensor) -> Tensor:
    """SiLU, in place where nothing learns: large maps cost more to allocate than to compute."""
    return F.silu(normed, inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, groups: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.norm1 = operations.GroupNorm(groups, inputs, eps=NORM_EPS)
        self.conv1 = operations.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = operations.GroupNorm(groups, outputs, eps=NORM_EPS)
        self.conv2 = operations.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = (
            operations.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        )

    def forward(self, x: Tensor, norm: NormFn = own_norm) -> Tensor:
        h = self.conv1(activate(norm(self.norm1, x)))
        h = self.conv2(activate(norm(self.norm2, h)))
        return h.add_(self.shortcut(x))


class SpatialAttention(nn.Module):
    """Every position looks at every other: (N, C, H, W) -> (N, C, H, W).

    With windows, at every other of the same window; where windows overlap, what they saw is
    cross-faded. A canvas of any size then costs in proportion to its area, and no position looks at
    more others than in training.
    """

    def __init__(self, width: int, groups: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.norm = operations.GroupNorm(groups, width, eps=NORM_EPS)
        self.qkv = operations.Conv2d(width, 3 * width, 1)
        self.projection = operations.Conv2d(width, width, 1)

    def forward(self, x: Tensor, windows: TileGrid | None = None) -> Tensor:
        qkv = self.qkv(self.norm(x))
        if windows is None:
            seen = self._look(qkv)
        else:
            seen = x.new_zeros(x.shape)
            for number in range(len(x) * len(windows)):
                windows.add(seen, [number], self._look(windows.crop(qkv, [number])))
        return x + self.projection(seen)

    def _look(self, qkv: Tensor) -> Tensor:
        height = qkv.shape[2]
        q, k, v = rearrange(qkv, "n (three c) h w -> three n 1 (h w) c", three=3).contiguous()
        seen = F.scaled_dot_product_attention(q, k, v)
        return rearrange(seen, "n 1 (h w) c -> n c h w", h=height).contiguous()


class Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention where the level has it.

    resampling: name of the convolution that leads to the next level, which the last one has not
    """

    resampling: ClassVar[str]

    def __init__(
        self,
        config: AutoencoderConfig,
        level: int,
        inputs: int,
        blocks: int,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        width, groups = config.widths[level], config.norm_groups
        widths = [inputs] + [width] * blocks
        self.blocks = LayerList(
            ResidualBlock(a, b, groups, operations)
            for a, b in zip(widths, widths[1:], strict=False)
        )
        attentions = blocks if level in config.attention_levels else 0
        self.attentions = LayerList(
            SpatialAttention(width, groups, operations) for _ in range(attentions)
        )

    def forward(
        self, x: Tensor, norm: NormFn = own_norm, windows: TileGrid | None = None
    ) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x, norm)
            if len(self.attentions):
                x = self.attentions[i](x, windows)
        return x


class DownLevel(Level):
    resampling = "downsample"
    downsample: nn.Conv2d

    def __init__(self, config: AutoencoderConfig, level: int, operations: ModuleType = nn) -> None:
        widths, width = config.widths, config.widths[level]
        super().__init__(
            config, level, widths[max(level - 1, 0)], config.encoder_blocks, operations
        )
        if level < len(widths) - 1:
            self.add_module(self.resampling, operations.Conv2d(width, width, 3, stride=2))

    def shrink(self, x: Tensor) -> Tensor:
        """To half the resolution; the coarsest level does not."""
        convolution = self._modules.get(self.resampling)
        # Padded right and bottom only: the released weights were trained so.
        return x if convolution is None else convolution(F.pad(x, (0, 1, 0, 1)))


class UpLevel(Level):
    resampling = "upsample"
    upsample: nn.Conv2d

    def __init__(self, config: AutoencoderConfig, level: int, operations: ModuleType = nn) -> None:
        widths, width = config.widths, config.widths[level]
        inputs = widths[min(level + 1, len(widths) - 1)]
        super().__init__(config, level, inputs, config.decoder_blocks, operations)
        if level > 0:
            self.add_module(self.resampling, operations.Conv2d(width, width, 3, padding=1))

    def enlarge(self, x: Tensor) -> Tensor:
        """To twice the resolution; the finest level does not."""
        convolution = self._modules.get(self.resampling)
        if convolution is None:
            return x
        return convolution(F.interpolate(x, scale_factor=2, mode="nearest"))


class Middle(nn.Module):
    """What lies between the levels of the encoder or the decoder and the latent."""

    def __init__(self, width: int, groups: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.block1 = ResidualBlock(width, width, groups, operations)
        self.attention = SpatialAttention(width, groups, operations)
        self.block2 = ResidualBlock(width, width, groups, operations)

    def forward(self, x: Tensor, windows: TileGrid | None = None) -> Tensor:
        return self.block2(self.attention(self.block1(x), windows))


class Encoder(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> (N, C, H / downsampling, W / downsampling)."""

    level: ClassVar[type[DownLevel]] = DownLevel
    between: ClassVar[type[nn.Module]] = Middle

    def __init__(self, config: AutoencoderConfig, operations: ModuleType = nn) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1)
        self.down = LayerList(self.level(config, i, operations) for i in range(len(widths)))
        self.middle = self.between(widths[-1], config.norm_groups, operations)
        self.norm_out = operations.GroupNorm(config.norm_groups, widths[-1], eps=NORM_EPS)
        self.conv_out = operations.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level.shrink(level(x))
        return self.conv_out(activate(self.norm_out(self.middle(x))))


class Decoder(nn.Module):
    """(N, C, h, w) -> (N, 3, h * downsampling, w * downsampling), about [-1, 1], not clamped.

    In two parts, for canvases larger than a tile: the coarse one, up to the last attention, is
    cheap and runs on the whole canvas; the fine one only has convolutions and norms, and so runs on
    pieces of it that have `context` features more on each side than they keep.
    """

    level: ClassVar[type[UpLevel]] = UpLevel
    between: ClassVar[type[nn.Module]] = Middle

    def __init__(self, config: AutoencoderConfig, operations: ModuleType = nn) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = operations.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.middle = self.between(widths[-1], config.norm_groups, operations)
        # up[0] is the finest and runs last.
        self.up = LayerList(self.level(config, i, operations) for i in range(len(widths)))
        self.norm_out = operations.GroupNorm(config.norm_groups, widths[0], eps=NORM_EPS)
        self.conv_out = operations.Conv2d(widths[0], 3, 3, padding=1)

        # The finest level that has attention, or the coarsest: the last one of the coarse part.
        self.split = min((*config.attention_levels, len(widths) - 1))

    @property
    def context(self) -> int:
        """How many features around it a piece of the fine part sees."""
        pixels = 1  # of conv_out
        for level in self.up[: self.split]:
            # Two convolutions a block, and the one behind the upsampling that led here.
            pixels = -(-(pixels + 2 * len(level.blocks) + 1) // 2)
        return pixels

    @property
    def cells_per_feature(self) -> int:
        """Features along a side of the canvas, per cell of the latent."""
        return 2 ** (len(self.up) - 1 - self.split)

    def forward(self, x: Tensor) -> Tensor:
        return self.fine(self.coarse(x))

    def coarse(self, x: Tensor, windows: Sequence[TileGrid | None] = ()) -> Tensor:
        """(N, C, h, w) -> features; windows: of attention, for each coarse level, coarsest first"""
        levels = self.up[self.split :][::-1]
        windows = windows or [None] * len(levels)
        x = self.middle(self.conv_in(x), windows[0])
        for level, window in zip(levels, windows, strict=True):
            x = level(x, windows=window)
            if level is not levels[-1]:
                x = level.enlarge(x)
        return x

    def fine(self, x: Tensor, norm: NormFn = own_norm) -> Tensor:
        """Features of the coarse part, or a piece of them, to pixels."""
        x = self.up[self.split].enlarge(x)
        for level in self.up[: self.split][::-1]:
            x = level.enlarge(level(x, norm))
        return self.conv_out(activate(norm(self.norm_out, x)))
