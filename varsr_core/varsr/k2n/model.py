"""K2N's networks: an encoder of its own, then the network that gives the first token maps."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn

from ...nn.autoencoder import Encoder
from ...nn.map_network import MapNetwork
from ...nn.parameters import LeafParameter
from ...nn.resample import resample
from .config import REDUCTION, K2NConfig


class K2N(nn.Module):
    """(N, 3, lq, lq) in [0, 1] -> maps (N, C, side, side) of the first scales, all in float32.

    It is a hundredth of the work on a tile; float32 costs nothing there, and a token that flips
    changes the picture.

    fingerprint: of the weights
    operations:  where layers come from
    """

    def __init__(
        self, config: K2NConfig, *, operations: ModuleType = nn, fingerprint: str = ""
    ) -> None:
        super().__init__()
        self.config, self.fingerprint = config, fingerprint
        channels = config.encoder.latent_channels
        self.encoder = Encoder(config.encoder, operations)
        self.pre_quantizer = operations.Conv2d(channels, channels, 3, padding=1)
        self.maps = MapNetwork(config.maps, channels, config.sides, operations)
        self.input_scale = LeafParameter(config.scales)
        self.feature_scale = LeafParameter(config.scales)

    @property
    def lq_size(self) -> int:
        """Side of the picture that it takes, in pixels, for VARSR of 16 pixels a token."""
        return self.config.maps.side * self.config.encoder.downsampling // REDUCTION

    def encode(self, lq: Tensor) -> Tensor:
        """(N, 3, h, w) in [0, 1] -> (N, C, h / downsampling, w / downsampling)."""
        return self.pre_quantizer(self.encoder(lq.float() * 2 - 1))

    def features(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """encode()'s output at the size of VARSR's latent, and what the extractor makes of it."""
        grown = resample(latent, self.config.maps.side, "bilinear")
        return grown, self.maps.extractor(grown)

    def forward(self, lq: Tensor, scales: int) -> list[Tensor]:
        """The first `scales` maps."""
        return self.predicted(*self.features(self.encode(lq)), scales)

    def predicted(self, grown: Tensor, features: Tensor, scales: int) -> list[Tensor]:
        """Maps of what features() gives."""
        of_input, of_features = self.input_scale(grown), self.feature_scale(grown)
        found = []
        for k, tokens in enumerate(self.maps.maps(features, scales)):
            side = self.config.sides[k]
            branch = tokens.transpose(1, 2).unflatten(2, (side, side))
            pooled = (resample(x, side, "area") for x in (grown, features))
            plain, shared = pooled
            found.append(branch + of_input[k] * plain + of_features[k] * shared)
        return found


def on_device(network: K2N) -> torch.device:
    """Where its weights are."""
    return network.pre_quantizer.weight.device
