"""Encoder and decoder of the tokenizer: convolutional, 16 pixels per token at the released sizes.

The latent-diffusion kind of autoencoder (paper, section 3.1): GroupNorm, SiLU, 3x3 convolutions,
single-head self-attention at the coarsest level and in the middle.
"""

from __future__ import annotations

from types import ModuleType

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import TokenizerConfig

NORM_GROUPS = 32
NORM_EPS = 1e-6


class ResidualBlock(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.norm1 = operations.GroupNorm(NORM_GROUPS, inputs, eps=NORM_EPS)
        self.conv1 = operations.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = operations.GroupNorm(NORM_GROUPS, outputs, eps=NORM_EPS)
        self.conv2 = operations.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = (
            operations.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x) + h


class SpatialAttention(nn.Module):
    """Every position looks at every other: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, width: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.norm = operations.GroupNorm(NORM_GROUPS, width, eps=NORM_EPS)
        self.qkv = operations.Conv2d(width, 3 * width, 1)
        self.projection = operations.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        qkv = rearrange(self.qkv(self.norm(x)), "n (three c) h w -> three n 1 (h w) c", three=3)
        q, k, v = qkv.contiguous()
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.projection(rearrange(h, "n 1 (h w) c -> n c h w", h=height).contiguous())


class Level(nn.Module):
    """The residual blocks of one resolution, each followed by attention where the level has it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        attention: bool,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * blocks
        self.blocks = nn.ModuleList(
            ResidualBlock(a, b, operations) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.attentions = nn.ModuleList(
            SpatialAttention(outputs, operations) for _ in range(blocks if attention else 0)
        )

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.attentions:
                x = self.attentions[i](x)
        return x


class Middle(nn.Module):
    def __init__(self, width: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.block1 = ResidualBlock(width, width, operations)
        self.attention = SpatialAttention(width, operations)
        self.block2 = ResidualBlock(width, width, operations)

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(self.attention(self.block1(x)))


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

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
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
                last=i == len(widths) - 1,
                operations=operations,
            )
            for i, width in enumerate(widths)
        )
        self.middle = Middle(widths[-1], operations)
        self.norm_out = operations.GroupNorm(NORM_GROUPS, widths[-1], eps=NORM_EPS)
        self.conv_out = operations.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.middle(x))))


class Decoder(nn.Module):
    """(N, C, h, w) -> (N, 3, h * downsampling, w * downsampling), about [-1, 1], not clamped."""

    def __init__(self, config: TokenizerConfig, operations: ModuleType = nn) -> None:
        super().__init__()
        widths = config.widths
        coarsest = len(widths) - 1
        self.conv_in = operations.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.middle = Middle(widths[-1], operations)
        self.up = nn.ModuleList(  # up[0] is the finest and runs last
            UpLevel(
                widths[min(i + 1, coarsest)],
                width,
                config.decoder_blocks,
                i in config.attention_levels,
                last=i == 0,
                operations=operations,
            )
            for i, width in enumerate(widths)
        )
        self.norm_out = operations.GroupNorm(NORM_GROUPS, widths[0], eps=NORM_EPS)
        self.conv_out = operations.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))
