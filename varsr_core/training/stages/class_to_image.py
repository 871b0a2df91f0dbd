"""The stage that makes a class-to-image model: next-scale prediction from a class alone.

What a restorer is trained from (paper, section 3.5): a transformer that knows what pictures look
like. The losses are those of restorer.py, behind a class token in place of a picture. Some pictures
come with the null class, the last row of the embedding, which guidance pushes away from.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...errors import InputError
from ...varsr.kinds import check_makes_classes, num_labels
from ...varsr.model import VARSR
from .encoded_target import EncodedPair, encode_target
from .restorer import ISRLoss


class ClassToImageLoss(ISRLoss):
    """Cross-entropy of the tokens given a class, and the refiner's diffusion loss.

    given: as ISRLoss takes it
    """

    def __init__(self, model: VARSR, diffusion_weight: float = 2.0, **given: Any) -> None:
        check_makes_classes(model)
        super().__init__(model, diffusion_weight, **given)

    def trained(self) -> list[nn.Module]:
        return [self.model.word_embed, self.model.transformer, self.model.refiner]

    def inputs(self, batch: Any) -> EncodedPair:
        """batch: pictures (B, 3, S, S) in [0, 1] and their labels (B,), or the null class.

        Raises InputError for a label that the model has no row for.
        """
        pictures, labels = batch
        last = num_labels(self.model)
        # Where shapes alone are computed with, to count memory, there are no values.
        if not labels.is_meta and (labels.min() < 0 or labels.max() > last):
            raise InputError(
                f"labels reach from {labels.min()} to {labels.max()}; the model has "
                f"{last:,} classes, 0 to {last - 1}, and {last} for none. Give it more classes in "
                "`sizes`, or pictures of fewer"
            )
        nothing = pictures.new_zeros(len(labels), 0, self.model.config.transformer.width)
        return EncodedPair(nothing, labels, encode_target(self.model, pictures))

    def _prefix(self, lq: Tensor) -> Tensor:
        """There is none: (N, 0, D)."""
        return lq
