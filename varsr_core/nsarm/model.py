"""All networks of an NSARM model in one module, and how it is built from weights."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn

from ..files.lazy_tensor import StateDict
from ..nn.shells import in_dtype
from ..nn.weights import autoencoder_dtype
from ..runtime.defaults import ModelDefaults
from .config import FORCED, PAPER, PATCH, NSARMConfig, infer_config
from .map_network import MapNetwork
from .transformer import AttentionFn, Transformer, attention
from .vae import VAE
from .weights import RULES

fix_dtype = RULES.fix_dtype


class NSARM(nn.Module):
    """Autoencoder, map network and transformer. The three are used one after the other, so that a
    host can keep only one of them on its device.

    dtype:     of the matrix products
    vae_dtype: of the autoencoder's convolutions; not float16
    """

    def __init__(
        self,
        config: NSARMConfig,
        *,
        dtype: torch.dtype = torch.float32,
        vae_dtype: torch.dtype = torch.float32,
        attention: AttentionFn = attention,
        operations: ModuleType = nn,
        fingerprint: str = "",
        defaults: ModelDefaults = PAPER,
    ) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        self.fingerprint, self.defaults = fingerprint, defaults
        self.vae_dtype = vae_dtype
        channels = config.vae.latent_channels
        self.vae = VAE(config.vae, operations)
        sides = tuple(PATCH * side for side in config.schedule.sides[:FORCED])
        self.maps = MapNetwork(config.maps, channels, sides, operations)
        self.transformer = Transformer(
            config.transformer,
            config.bits,
            config.schedule,
            dtype=dtype,
            attention=attention,
            operations=operations,
        )

    def widened(self) -> NSARM | None:
        """As of VARSR."""
        return in_dtype(self, self.vae_dtype) if self.dtype == torch.float16 else None

    def encode(self, lq: Tensor) -> Tensor:
        """(N, 3, lq_size, lq_size) in [0, 1] -> (N, C, s, s) float32, not quantized."""
        return self.vae.encoder((lq * 2 - 1).to(self.vae_dtype)).float()

    def forced_codes(self, latent: Tensor) -> list[Tensor]:
        """Codes (N, C, side, side) float32 of the first scales, from encode()."""
        return self.maps.codes(latent.to(self.dtype))

    def decode(self, latent: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 3, 8h, 8w) float32 in [0, 1]."""
        return self.to_picture(self.vae.decoder(latent.to(self.vae_dtype)))

    def to_picture(self, decoded: Tensor) -> Tensor:
        """From the network's [-1, 1] to [0, 1], float32."""
        return decoded.float().add(1).div(2).clamp(0, 1)


def check_weights(weights: StateDict) -> None:
    """Refuses converted weights that are no numbers, too many, too few or of the wrong shape."""
    RULES.check_kinds(weights)
    config = infer_config(weights)
    RULES.check(lambda: NSARM(config), weights)


def build_model(
    weights: StateDict,
    *,
    sides: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float32,
    wide_dtype: torch.dtype = torch.float32,
    attention: AttentionFn = attention,
    operations: ModuleType = nn,
    fingerprint: str = "",
    defaults: ModelDefaults = PAPER,
) -> NSARM:
    """A model from converted weights, strictly: nothing missing, nothing left over."""
    config = infer_config(weights, sides)

    def make() -> NSARM:
        return NSARM(
            config,
            dtype=dtype,
            vae_dtype=autoencoder_dtype(dtype, wide_dtype),
            attention=attention,
            operations=operations,
            fingerprint=fingerprint,
            defaults=defaults,
        )

    return RULES.build(make, weights, dtype, wide_dtype)
