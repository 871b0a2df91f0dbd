"""The BSQ autoencoder: 8 pixels a cell, convolutions and group norms, no attention.

The encoder's output is not quantized here: the map network takes it as it is.
"""

from __future__ import annotations

from types import ModuleType

from torch import Tensor, nn

from ..nn import autoencoder
from ..nn.layer_list import LayerList
from .config import VAEConfig


class DownLevel(autoencoder.DownLevel):
    resampling = "resample"


class UpLevel(autoencoder.UpLevel):
    resampling = "resample"


class Middle(LayerList[autoencoder.ResidualBlock]):
    """Residual blocks alone."""

    def __init__(self, width: int, groups: int, operations: ModuleType = nn) -> None:
        super().__init__(
            autoencoder.ResidualBlock(width, width, groups, operations) for _ in range(2)
        )

    def forward(self, x: Tensor, windows: None = None) -> Tensor:
        for block in self:
            x = block(x)
        return x


class Encoder(autoencoder.Encoder):
    level, between = DownLevel, Middle


class Decoder(autoencoder.Decoder):
    level, between = UpLevel, Middle


class VAE(nn.Module):
    def __init__(self, config: VAEConfig, operations: ModuleType = nn) -> None:
        super().__init__()
        self.encoder = Encoder(config, operations)
        self.decoder = Decoder(config, operations)
