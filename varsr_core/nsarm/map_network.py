"""The transformation network: from the low-quality picture's latent to the first scales' codes."""

from __future__ import annotations

from types import ModuleType

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .bits import codes_of_signs
from .config import MapConfig

NORM_EPS = 1e-5


class NormedConv(nn.Module):
    """Convolution, layer norm over the whole map (the map's size is part of the weights), GELU."""

    def __init__(self, inputs: int, outputs: int, side: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.conv = operations.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = operations.LayerNorm((outputs, side, side), eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(x)))


class Layer(nn.Module):
    """A transformer encoder layer as of old: norms behind the sums, ReLU."""

    def __init__(self, width: int, heads: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = operations.Linear(width, 3 * width)
        self.projection = operations.Linear(width, width)
        self.norm1 = operations.LayerNorm(width, eps=NORM_EPS)
        self.fc1 = operations.Linear(width, 4 * width)
        self.fc2 = operations.Linear(4 * width, width)
        self.norm2 = operations.LayerNorm(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) -> the same shape."""
        q, k, v = rearrange(self.qkv(x), "n l (three h d) -> three n h l d", three=3, h=self.heads)
        seen = F.scaled_dot_product_attention(q, k, v)
        x = self.norm1(x + self.projection(rearrange(seen, "n h l d -> n l (h d)")))
        return self.norm2(x + self.fc2(F.relu(self.fc1(x))))


class Branch(nn.Module):
    """One scale: features pooled to its side, looked at by a transformer without positions."""

    def __init__(
        self,
        inputs: int,
        width: int,
        layers: int,
        heads: int,
        channels: int,
        side: int,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            NormedConv(inputs, width // 2, side, operations),
            NormedConv(width // 2, width, side, operations),
        )
        self.layers = nn.ModuleList(Layer(width, heads, operations) for _ in range(layers))
        self.narrow = operations.Linear(width, width // 2)
        self.norm = operations.LayerNorm(width // 2, eps=NORM_EPS)
        self.out = operations.Linear(width // 2, channels)

    def forward(self, features: Tensor, side: int) -> Tensor:
        """(N, C, S, S) -> (N, side * side, channels)."""
        x = F.adaptive_avg_pool2d(self.features(features), side).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.out(F.gelu(self.norm(self.narrow(x))))


class MapNetwork(nn.Module):
    """(N, C, S, S), the encoder's output -> one (N, side * side, C) for each forced scale.

    sides: of the scales, in cells
    """

    def __init__(
        self, config: MapConfig, channels: int, sides: tuple[int, ...], operations: ModuleType = nn
    ) -> None:
        super().__init__()
        self.sides = sides
        widths = (channels, *config.extractor, channels)
        self.extractor = nn.Sequential(
            *(
                NormedConv(a, b, config.side, operations)
                for a, b in zip(widths, widths[1:], strict=False)
            )
        )
        sizes = zip(config.widths, config.layers, config.heads, strict=True)
        self.branches = nn.ModuleList(
            Branch(channels, width, layers, heads, channels, config.side, operations)
            for width, layers, heads in sizes
        )

    def forward(self, latent: Tensor) -> list[Tensor]:
        features = self.extractor(latent)
        return [
            branch(features, side) for branch, side in zip(self.branches, self.sides, strict=True)
        ]

    def codes(self, latent: Tensor) -> list[Tensor]:
        """Codes (N, C, side, side) of the forced scales, float32.

        The released weights expect tokens to be read as (C, side, side) as they lie in memory,
        without a transpose.
        """
        return [
            codes_of_signs(tokens.float().reshape(len(tokens), -1, side, side))
            for tokens, side in zip(self(latent), self.sides, strict=True)
        ]
