"""The BSQ autoencoder: 8 pixels a cell, convolutions and group norms, no attention.

The encoder's output is not quantized here: the map network takes it as it is.
"""

from __future__ import annotations

from types import ModuleType

import torch.nn.functional as F
from torch import Tensor, nn

from ..tiling.group_norm import NormFn, own_norm
from .config import VAEConfig

GROUPS = 32
EPS = 1e-6


class ResidualBlock(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.norm1 = operations.GroupNorm(GROUPS, inputs, eps=EPS)
        self.conv1 = operations.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = operations.GroupNorm(GROUPS, outputs, eps=EPS)
        self.conv2 = operations.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = (
            operations.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        )

    def forward(self, x: Tensor, norm: NormFn = own_norm) -> Tensor:
        h = self.conv1(F.silu(norm(self.norm1, x)))
        return self.shortcut(x) + self.conv2(F.silu(norm(self.norm2, h)))


class Level(nn.Module):
    """Residual blocks of one resolution, and the convolution that leads to the next one."""

    def __init__(
        self, inputs: int, outputs: int, blocks: int, resample: nn.Module | None, ops: ModuleType
    ) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * blocks
        self.blocks = nn.ModuleList(
            ResidualBlock(a, b, ops) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.resample = resample

    def forward(self, x: Tensor, norm: NormFn = own_norm) -> Tensor:
        for block in self.blocks:
            x = block(x, norm)
        return x


class Encoder(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> (N, C, H / 8, W / 8)."""

    def __init__(self, config: VAEConfig, operations: ModuleType = nn) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            Level(
                widths[max(i - 1, 0)],
                width,
                config.encoder_blocks,
                None if i == last else operations.Conv2d(width, width, 3, stride=2),
                operations,
            )
            for i, width in enumerate(widths)
        )
        self.middle = nn.ModuleList(
            ResidualBlock(widths[-1], widths[-1], operations) for _ in range(2)
        )
        self.norm_out = operations.GroupNorm(GROUPS, widths[-1], eps=EPS)
        self.conv_out = operations.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
            if level.resample is not None:  # padded right and bottom only
                x = level.resample(F.pad(x, (0, 1, 0, 1)))
        for block in self.middle:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """(N, C, h, w) -> (N, 3, 8h, 8w), about [-1, 1], not clamped.

    For canvases larger than a tile in two parts: the coarse one is cheap and runs on the whole
    canvas, the fine one on pieces of it, `context` features larger on each side than they keep.
    """

    def __init__(self, config: VAEConfig, operations: ModuleType = nn) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = operations.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.middle = nn.ModuleList(
            ResidualBlock(widths[-1], widths[-1], operations) for _ in range(2)
        )
        self.up = nn.ModuleList(  # up[0] is the finest and runs last
            Level(
                widths[min(i + 1, last)],
                width,
                config.decoder_blocks,
                None if i == 0 else operations.Conv2d(width, width, 3, padding=1),
                operations,
            )
            for i, width in enumerate(widths)
        )
        self.norm_out = operations.GroupNorm(GROUPS, widths[0], eps=EPS)
        self.conv_out = operations.Conv2d(widths[0], 3, 3, padding=1)

    @property
    def context(self) -> int:
        """How many cells around it a piece of the fine part sees."""
        pixels = 1  # of conv_out
        for level in self.up[:-1]:
            pixels = -(-(pixels + 2 * len(level.blocks) + 1) // 2)
        return pixels

    def forward(self, x: Tensor) -> Tensor:
        return self.fine(self.coarse(x))

    def coarse(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> features (N, D, h, w)."""
        x = self.conv_in(x)
        for block in self.middle:
            x = block(x)
        return self.up[-1](x)

    def fine(self, x: Tensor, norm: NormFn = own_norm) -> Tensor:
        """Features of the coarse part, or a piece of them, to pixels."""
        x = _enlarge(self.up[-1], x)
        for level in reversed(self.up[:-1]):
            x = _enlarge(level, level(x, norm))
        return self.conv_out(F.silu(norm(self.norm_out, x)))


def _enlarge(level: Level, x: Tensor) -> Tensor:
    """To the resolution of the next finer level; the finest has none."""
    if level.resample is None:
        return x
    return level.resample(F.interpolate(x, scale_factor=2, mode="nearest"))


class VAE(nn.Module):
    def __init__(self, config: VAEConfig, operations: ModuleType = nn) -> None:
        super().__init__()
        self.encoder = Encoder(config, operations)
        self.decoder = Decoder(config, operations)
