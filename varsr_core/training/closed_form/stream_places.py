"""Where the solved start of a restorer puts things in the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ...varsr.config import VARSRConfig
from ..stages.encoded_target import EncodedTarget

LEVEL = 12.0  # height of the marks that tell scales apart; also steadies the layer norms

Sample = tuple[Tensor, Tensor, EncodedTarget]
"""lq (N, 3, tile, tile) in [0, 1], quality classes (N,), and the target, encoded."""


@dataclass(frozen=True)
class Places:
    """Where in the residual stream what is found.

    estimate: of the latent, in prefix tokens        words: latent so far, in tokens of maps
    code:     estimate of the code, last MLP         level(k): mark of scale k, K for the prefix
    copy(b):  the estimate over a token's area, as block b finds it
    """

    channels: int
    scales: int
    depth: int

    @property
    def estimate(self) -> slice:
        return slice(0, self.channels)

    @property
    def words(self) -> slice:
        return slice(self.channels, 2 * self.channels)

    @property
    def code(self) -> slice:
        return slice(2 * self.channels, 3 * self.channels)

    def level(self, scale: int) -> int:
        return 3 * self.channels + scale

    @property
    def balance(self) -> int:
        """Carries the marks' opposite, so that their mean is zero."""
        return self.level(self.scales + 1)

    @property
    def empty(self) -> int:
        """Holds zero: what a layer norm makes of it is the token's mean, to be taken off again."""
        return self.balance + 1

    def copy(self, block: int) -> slice:
        first = self.empty + 1 + block * self.channels
        return slice(first, first + self.channels)

    @property
    def end(self) -> int:
        return self.copy(self.depth - 1).stop

    @property
    def evidence(self) -> list[int]:
        """All that the code is estimated from."""
        words = range(self.words.start, self.words.stop)
        return [*words, *range(self.copy(0).start, self.end)]


def places(config: VARSRConfig) -> Places:
    return Places(
        config.tokenizer.latent_channels, config.schedule.num_scales, config.transformer.depth
    )


def clear_rows(layer: nn.Module, count: int) -> None:
    """The first `count` outputs of a layer become zero."""
    layer.weight[:count] = 0
    layer.bias[:count] = 0
