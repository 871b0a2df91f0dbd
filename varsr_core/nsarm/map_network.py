"""The transformation network: from the low-quality picture's latent to the first scales' codes."""

from __future__ import annotations

from torch import Tensor

from ..nn import map_network
from .bits import codes_of_signs


class MapNetwork(map_network.MapNetwork):
    def codes(self, latent: Tensor) -> list[Tensor]:
        """(N, C, S, S) -> codes (N, C, side, side) of the forced scales, float32.

        The released weights expect tokens to be read as (C, side, side) as they lie in memory,
        without a transpose.
        """
        return [
            codes_of_signs(tokens.float().reshape(len(tokens), -1, side, side))
            for tokens, side in zip(self(latent), self.sides, strict=True)
        ]
