"""First weights in closed form: solved by least squares or written down, instead of drawn.

Only small models need it, such as the one that the pack carries: they then start from a linear
tokenizer and a linear restorer, which drawn weights take thousands of steps to become. What is
behind `closed_form_starts()` is private to this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from ...varsr.config import VARSRConfig
from ...varsr.model import VARSR
from ..stages.encoded_target import EncodedPair
from .prefix import prefix_start
from .restorer import restorer_fits, restorer_start
from .tokenizer import linear_start, tokenizer_fits


class Starts(NamedTuple):
    """Functions that set first weights, in the order in which they are to be called.

    tokenizer: takes the model, pictures (N, 3, H, W) in [0, 1], some dozens, and the deviation that
               its latent gets
    prefix:    takes the model, its tokenizer trained, and batches of some hundred good pairs in all
    restorer:  the same, behind `prefix`; all but the refiner, which stays as it was drawn
    """

    tokenizer: Callable[[VARSR, Tensor, float], None] | None = None
    prefix: Callable[[VARSR, Sequence[EncodedPair]], None] | None = None
    restorer: Callable[[VARSR, Sequence[EncodedPair]], None] | None = None


def closed_form_starts(config: VARSRConfig) -> Starts:
    """What can be solved for; None for parts whose sizes leave no room for it."""
    starts = Starts()
    if tokenizer_fits(config.tokenizer):
        starts = starts._replace(tokenizer=linear_start)
    if not config.transformer.class_to_image and restorer_fits(config):
        starts = starts._replace(prefix=prefix_start, restorer=restorer_start)
    return starts
