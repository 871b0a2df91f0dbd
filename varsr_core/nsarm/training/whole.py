"""The second stage: the whole model learns the bits of the scales that it samples.

From the authors' figure and code: full fine-tuning; the first scales are the map network's, bits of
the later ones are found anew behind them, and cross-entropy of each bit is taken on these. From
Infinity: flips of bits and their share, tokens that weigh less the larger their map, texts left
out. Our guesses: no gradient passes the signs of the map network's output, so it goes on with the
loss of its own stage; the weight of that; that nothing is asked of the first scales' logits, which
sampling throws away; that the latent is shrunk by area for the next scale, as the released code
samples, while parts of its training code do it bilinearly (`downsampling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ...runtime.precision import without_autocast
from ...training.data.small_pairs import SmallPairBatch, good_files, small_pairs
from ...training.loop import LoopSettings
from ...training.stage_table import Context, Stage
from ...training.stages.loss import Loss
from ...training.trained_kind import TrainedKind
from ..config import FORCED
from ..model import NSARM
from ..sampling import Downsampling, SampleSettings
from .maps import encoded, map_losses
from .released import released_sizes
from .start import checkpoint, started
from .targets import Pyramid, encode
from .teacher_forcing import all_hidden, read_texts
from .texts import Texts, left_out


@dataclass(frozen=True)
class WholeTraining:
    """
    bits:         the stage
    flipped:      largest share of a scale's bits that later ones see wrong
    without_text: share of pictures that are learned without their text
    by_side:      whether a token weighs inversely to the side of its map; otherwise all alike
    maps:         weight of the map network's own loss; 0 leaves it as it is
    dropout:      of the map network
    downsampling: as of sampling; "area" or "trilinear"
    """

    bits: LoopSettings | None = None
    flipped: float = 0.3
    without_text: float = 0.1
    by_side: bool = True
    maps: float = 1.0
    dropout: float = 0.1
    downsampling: Downsampling = "area"


class WholeLoss(Loss[SmallPairBatch]):
    """Cross-entropy of the later scales' bits, teacher-forced, and the map network's own loss.

    texts:         of the pictures
    checkpointing: see all_hidden
    """

    def __init__(
        self, model: NSARM, settings: WholeTraining, texts: Texts, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.model, self.settings, self.texts = model, settings, texts
        self.checkpointing = checkpointing
        self.sampling = SampleSettings(downsampling=settings.downsampling)
        if model.config.schedule.num_scales == FORCED:
            raise InputError(
                f"this model has {FORCED} scales, all of which its map network gives; there is "
                "nothing for the transformer to learn"
            )

    def trained(self) -> list[nn.Module]:
        model = self.model
        return [model.transformer, model.maps] if self.settings.maps > 0 else [model.transformer]

    def shards(self) -> list[nn.Module]:
        blocks, maps = self.model.transformer.blocks, self.model.maps
        # Keys and values of the texts are asked for before the first block runs.
        parts = [part for block in blocks for part in (block.cross_kv, block)]
        return [*parts, *maps.branches] if self.settings.maps > 0 else parts

    def checkpointed(self) -> list[nn.Module]:
        return list(self.model.transformer.blocks)

    def inputs(self, batch: SmallPairBatch) -> tuple[Any, ...]:
        return *encoded(self.model, batch), [self.texts.of(file) for file in batch.files]

    def forward(
        self,
        lq_latent: Tensor,
        latent: Tensor,
        texts: Sequence[Path | None],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """
        lq_latent: (N, C, s, s) of the low-quality picture
        latent:    (N, C, S, S) of the good one
        texts:     file of each picture's text, or None
        """
        model, settings = self.model, self.settings
        with torch.no_grad():
            forced = model.forced_codes(lq_latent)
        target = encode(model, latent, forced, settings.flipped, generator)
        without = left_out(texts, settings.without_text, generator)
        errors, right = self._bits(target, self.texts.grouped(texts, without))
        losses = {"loss": errors, "bits": errors, "accuracy": right}
        if settings.maps > 0:
            codes = encode(model, latent, scales=FORCED).codes
            own = map_losses(model, lq_latent, codes, settings.dropout, generator)
            losses["loss"] = errors + settings.maps * own["loss"]
            losses |= {"maps": own["loss"], "map_bits": own["map_bits"]}
        return losses

    def _bits(
        self, target: Pyramid, rows: dict[tuple[Path | None, int], list[int]]
    ) -> tuple[Tensor, Tensor]:
        """Mean error, and share of right bits, over all pictures."""
        transformer = self.model.transformer
        order = [number for numbers in rows.values() for number in numbers]
        read = [self.texts.read(transformer.text, path, length) for path, length in rows]
        text = read_texts(transformer, read, [len(numbers) for numbers in rows.values()])
        words = target.words(self.model, self.sampling)
        words = [None if part is None else part[order] for part in words]
        later = range(FORCED, len(target.codes))
        bits = torch.cat([target.bits(scale) for scale in later], dim=1)[order]
        weights = token_weights(self.model, self.settings.by_side).to(bits.device)
        hidden = all_hidden(self.model, words, text, self.checkpointing)
        with without_autocast(bits.device):  # the head, as in sampling
            logits = transformer.logits(hidden[:, -bits.shape[1] :].float(), text)
        right = (logits.detach().argmax(-1) == bits).float().mean()
        # Of no use here, but processes that share weights have to agree on which have a gradient.
        unused = 0 * transformer.text.unconditional.weight.sum()
        return bit_errors(logits, bits, weights).mean() + unused, right


def bit_errors(logits: Tensor, bits: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of each picture: (N,).

    logits:  (N, L, bits, 2); bits: (N, L, bits) int64
    weights: (L,) of the tokens, 1 in sum
    """
    errors = F.cross_entropy(logits.flatten(0, 2), bits.flatten(), reduction="none")
    return (errors.view(bits.shape).mean(2) * weights).sum(1)


def token_weights(model: NSARM, by_side: bool) -> Tensor:
    """Of the tokens of all later scales, 1 in sum."""
    sides = model.config.schedule.sides[FORCED:]
    weights = torch.cat([torch.full((s * s,), 1 / s if by_side else 1.0) for s in sides])
    return weights / weights.sum()


def whole_loss(context: Context) -> WholeLoss:
    model: NSARM = context.model
    texts = Texts(context.sources.texts, model.config.transformer.text_width)
    texts.check(good_files(context.data))
    return WholeLoss(model, context.own, texts, context.config.checkpointing)


TRAINED = TrainedKind(
    stages=(Stage(name="bits", loss=whole_loss, data=small_pairs),),
    model=started,
    tile_size=lambda model: model.config.tile_size,
    checkpoint=checkpoint,
    own=WholeTraining,
    takes=frozenset({"texts"}),
    example=released_sizes,
)
