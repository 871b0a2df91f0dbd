"""Which channels of the residual stream a restorer's first weights use, and for what."""

from __future__ import annotations

from dataclasses import dataclass

from ...varsr.config import VARSRConfig
from ..stages.prefix import estimate_channels

MARK = 12.0  # height of the marks that tell scales apart; also steadies the layer norms


@dataclass(frozen=True)
class StreamLayout:
    """Channels of the residual stream by what they hold.

    estimate:   of the latent, in prefix tokens      words:   latent so far, in tokens of maps
    code:       estimate of the code, last MLP       mark(k): of scale k, K for the prefix
    average(b): the estimate, averaged by block b over the area of the token
    """

    estimate: slice
    scales: int
    depth: int

    @classmethod
    def of(cls, config: VARSRConfig) -> StreamLayout:
        return cls(estimate_channels(config), config.schedule.num_scales, config.transformer.depth)

    @property
    def channels(self) -> int:
        return self.estimate.stop

    @property
    def words(self) -> slice:
        return slice(self.channels, 2 * self.channels)

    @property
    def code(self) -> slice:
        return slice(2 * self.channels, 3 * self.channels)

    def mark(self, scale: int) -> int:
        return 3 * self.channels + scale

    @property
    def balance(self) -> int:
        """Carries the marks' opposite, so that their mean is zero."""
        return self.mark(self.scales + 1)

    @property
    def empty(self) -> int:
        """Holds zero: what a layer norm makes of it is the token's mean, to be taken off again."""
        return self.balance + 1

    def average(self, block: int) -> slice:
        first = self.empty + 1 + block * self.channels
        return slice(first, first + self.channels)

    @property
    def end(self) -> int:
        return self.average(self.depth - 1).stop

    @property
    def evidence(self) -> list[int]:
        """All that the code is estimated from."""
        words = range(self.words.start, self.words.stop)
        return [*words, *range(self.average(0).start, self.end)]
