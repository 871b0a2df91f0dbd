"""Encoder and decoder of the tokenizer: convolutional, 16 pixels per token at the released sizes.

The latent-diffusion kind of autoencoder (paper, section 3.1): GroupNorm, SiLU, 3x3 convolutions,
single-head self-attention at the coarsest level and in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..tiling.grid import TileGrid
from ..tiling.group_norm import NormFn, own_norm
from .config import NORM_GROUPS, TokenizerConfig

NORM_EPS = 1e-6


def activate(normed: Tensor) -> Tensor:
    """SiLU, in place where nothing learns: large maps cost more to allocate than to compute."""
    return F.silu(normed, inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        groups: int = NORM_GROUPS,
        operations: ModuleType = nn,
    ) -> None:
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

    def __init__(self, width: int, groups: int = NORM_GROUPS, operations: ModuleType = nn) -> None:
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
    """The residual blocks of one resolution, each followed by attention where the level has it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        attention: bool,
        groups: int = NORM_GROUPS,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * blocks
        self.blocks = nn.ModuleList(
            ResidualBlock(a, b, groups, operations)
            for a, b in zip(widths, widths[1:], strict=False)
        )
        self.attentions = nn.ModuleList(
            SpatialAttention(outputs, groups, operations) for _ in range(blocks if attention else 0)
        )

    def forward(
        self, x: Tensor, norm: NormFn = own_norm, windows: TileGrid | None = None
    ) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x, norm)
            if self.attentions:
                x = self.attentions[i](x, windows)
        return x


class Middle(nn.Module):
    def __init__(self, width: int, groups: int = NORM_GROUPS, operations: ModuleType = nn) -> None:
        super().__init__()
        self.block1 = ResidualBlock(width, width, groups, operations)
        self.attention = SpatialAttention(width, groups, operations)
        self.block2 = ResidualBlock(width, width, groups, operations)

    def forward(self, x: Tensor, windows: TileGrid | None = None) -> Tensor:
        return self.block2(self.attention(self.block1(x), windows))


class DownLevel(Level):
    """A level that ends by halving the resolution; the coarsest one does not."""

    def __init__(self, *args: int, last: bool, operations: ModuleType = nn) -> None:
        super().__init__(*args, operations=operations)
        width = args[1]
        self.downsample = None if last else operations.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        # Padded right and bottom only: the released weights were trained so.
        return x if self.downsample is None else self.downsample(F.pad(x, (0, 1, 0, 1)))


class UpLevel(Level):
    """A level that ends by doubling the resolution; the finest one does not."""

    def __init__(self, *args: int, last: bool, operations: ModuleType = nn) -> None:
        super().__init__(*args, operations=operations)
        width = args[1]
        self.upsample = None if last else operations.Conv2d(width, width, 3, padding=1)

    def enlarge(self, x: Tensor) -> Tensor:
        """To the resolution of the next finer level; the finest level has none."""
        if self.upsample is None:
            return x
        return self.upsample(F.interpolate(x, scale_factor=2, mode="nearest"))


class Encoder(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> (N, C, H / downsampling, W / downsampling)."""

    def __init__(self, config: TokenizerConfig, operations: ModuleType = nn) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            DownLevel(
                widths[max(i - 1, 0)],
                width,
                config.encoder_blocks,
                i in config.attention_levels,
                config.norm_groups,
                last=i == len(widths) - 1,
                operations=operations,
            )
            for i, width in enumerate(widths)
        )
        self.middle = Middle(widths[-1], config.norm_groups, operations)
        self.norm_out = operations.GroupNorm(config.norm_groups, widths[-1], eps=NORM_EPS)
        self.conv_out = operations.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(activate(self.norm_out(self.middle(x))))


class Decoder(nn.Module):
    """(N, C, h, w) -> (N, 3, h * downsampling, w * downsampling), about [-1, 1], not clamped.

    In two parts, for canvases larger than a tile: the coarse one, up to the last attention, is
    cheap and runs on the whole canvas; the fine one only has convolutions and norms, and so runs on
    pieces of it that have `context` features more on each side than they keep.
    """

    def __init__(self, config: TokenizerConfig, operations: ModuleType = nn) -> None:
        super().__init__()
        widths = config.widths
        coarsest = len(widths) - 1
        self.conv_in = operations.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.middle = Middle(widths[-1], config.norm_groups, operations)
        self.up = nn.ModuleList(  # up[0] is the finest and runs last
            UpLevel(
                widths[min(i + 1, coarsest)],
                width,
                config.decoder_blocks,
                i in config.attention_levels,
                config.norm_groups,
                last=i == 0,
                operations=operations,
            )
            for i, width in enumerate(widths)
        )
        self.norm_out = operations.GroupNorm(config.norm_groups, widths[0], eps=NORM_EPS)
        self.conv_out = operations.Conv2d(widths[0], 3, 3, padding=1)

        # The finest level that has attention, or the coarsest: the last one of the coarse part.
        self.split = min((*config.attention_levels, coarsest))

    @property
    def context(self) -> int:
        """How many features around it a piece of the fine part sees."""
        pixels = 1  # of conv_out
        for level in self.up[: self.split]:
            # Two convolutions a block, and the one behind the upsampling that led here.
            pixels = -(-(pixels + 2 * len(level.blocks) + 1) // 2)
        return pixels if self.split else 1

    @property
    def cells_per_feature(self) -> int:
        """Features along a side of the canvas, per cell of the latent."""
        return 2 ** (len(self.up) - 1 - self.split)

    def forward(self, x: Tensor) -> Tensor:
        return self.fine(self.coarse(x))

    def coarse(self, x: Tensor, windows: Sequence[TileGrid | None] = ()) -> Tensor:
        """(N, C, h, w) -> features; windows: of attention, for each coarse level, coarsest first"""
        levels = list(self.up[self.split :])[::-1]
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
        for level in reversed(self.up[: self.split]):
            x = level.enlarge(level(x, norm))
        return self.conv_out(activate(norm(self.norm_out, x)))
