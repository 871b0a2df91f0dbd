"""From the latent of a low-quality picture to the first token maps: convolutions shared by all
scales, then one branch for each."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .layer_list import LayerList
from .resample import resample
from .weights import RenameTable

NORM_EPS = 1e-5


@dataclass(frozen=True)
class MapConfig:
    """
    side:      of the latent; layer norms over whole maps allow no other
    extractor: channels of the shared convolutions
    widths, layers, heads: of each scale's branch
    """

    side: int
    extractor: tuple[int, ...]
    widths: tuple[int, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...]


class NormedConv(nn.Module):
    """Convolution, layer norm over the whole map (the map's size is part of the weights), GELU."""

    def __init__(self, inputs: int, outputs: int, side: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.conv = operations.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = operations.LayerNorm((outputs, side, side), eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(x)))


class Layer(nn.Module):
    """A transformer encoder layer as of old: norms behind the sums, ReLU.

    dropout: share of values that are dropped in training; 0 at all other times
    """

    def __init__(self, width: int, heads: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.heads, self.dropout = heads, 0.0
        self.qkv = operations.Linear(width, 3 * width)
        self.projection = operations.Linear(width, width)
        self.norm1 = operations.LayerNorm(width, eps=NORM_EPS)
        self.fc1 = operations.Linear(width, 4 * width)
        self.fc2 = operations.Linear(4 * width, width)
        self.norm2 = operations.LayerNorm(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) -> the same shape."""
        q, k, v = rearrange(self.qkv(x), "n l (three h d) -> three n h l d", three=3, h=self.heads)
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)
        seen = self.projection(rearrange(seen, "n h l d -> n l (h d)"))
        x = self.norm1(x + self._drop(seen))
        return self.norm2(x + self._drop(self.fc2(self._drop(F.relu(self.fc1(x))))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.dropout else x


class Branch(nn.Module):
    """One scale: features pooled to its side, looked at by a transformer without positions."""

    def __init__(
        self,
        channels: int,
        width: int,
        layers: int,
        heads: int,
        side: int,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            NormedConv(channels, width // 2, side, operations),
            NormedConv(width // 2, width, side, operations),
        )
        self.layers = LayerList(Layer(width, heads, operations) for _ in range(layers))
        self.narrow = operations.Linear(width, width // 2)
        self.norm = operations.LayerNorm(width // 2, eps=NORM_EPS)
        self.out = operations.Linear(width // 2, channels)

    def forward(self, features: Tensor, side: int) -> Tensor:
        """(N, C, S, S) -> (N, side * side, channels)."""
        x = resample(self.features(features), side, "area").flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.out(F.gelu(self.norm(self.narrow(x))))


class MapNetwork(nn.Module):
    """(N, C, S, S), an encoder's output -> tokens (N, side * side, C) for each scale.

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
        self.branches = LayerList(
            Branch(channels, width, layers, heads, config.side, operations)
            for width, layers, heads in sizes
        )

    def forward(self, latent: Tensor) -> list[Tensor]:
        return self.maps(self.extractor(latent))

    def maps(self, features: Tensor, scales: int | None = None) -> list[Tensor]:
        """What the branches, or only the first ones, make of the extractor's output (N, C, S, S)"""
        pairs = list(zip(self.branches, self.sides, strict=True))[:scales]
        return [branch(features, side) for branch, side in pairs]


def _normed_convs(theirs: str, ours: str, count: int) -> RenameTable:
    """A release counts convolution, norm and activation on together."""
    return [
        (rf"{theirs}\.{3 * number + offset}\.(?P<tail>.+)", rf"{ours}.{number}.{part}.\g<tail>")
        for number in range(count)
        for offset, part in enumerate(("conv", "norm"))
    ]


_LAYER = r"transformers\.(\d+)\.layers\.(\d+)"

# Of a release to ours.
RENAMED: RenameTable = (
    *_normed_convs(r"feature_extractor", "extractor", 3),
    *_normed_convs(r"feature_transforms\.(\d+)", r"branches.\1.features", 2),
    (rf"{_LAYER}\.self_attn\.in_proj_(\w+)", r"branches.\1.layers.\2.qkv.\3"),
    (rf"{_LAYER}\.self_attn\.out_proj\.(\w+)", r"branches.\1.layers.\2.projection.\3"),
    (rf"{_LAYER}\.linear([12])\.(\w+)", r"branches.\1.layers.\2.fc\3.\4"),
    (rf"{_LAYER}\.(norm[12]\.\w+)", r"branches.\1.layers.\2.\3"),
    (r"output_projs\.(\d+)\.0\.(\w+)", r"branches.\1.narrow.\2"),
    (r"output_projs\.(\d+)\.1\.(\w+)", r"branches.\1.norm.\2"),
    (r"output_projs\.(\d+)\.3\.(\w+)", r"branches.\1.out.\2"),
)
