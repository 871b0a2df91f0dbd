"""The stages of a run that trains VARSR: `STAGES` reads from top to bottom as a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from .closed_form import Starts
from .config import TrainingConfig
from .data.loading import TrainingData
from .data.pairs import PairBatch
from .data.pictures import PictureBatch
from .loop import LoopSettings
from .losses.picture import Features
from .stages.decoder import DecoderLoss, PrefixDecoderLoss
from .stages.encoded_target import EncodedPair, encode_target
from .stages.loss import Loss
from .stages.prefix import PrefixLoss
from .stages.refiner import RefinerLoss
from .stages.restorer import ISRLoss, PretrainingLoss
from .stages.tokenizer import TokenizerLoss, revive_codes
from .starting.sources import Sources
from .steps.processes import of_all_processes

REVIVE_EVERY = 100  # steps between looks for dead codes
REVIVE_UNTIL = 0.5  # of the tokenizer's steps; codes are left to settle after that
START_BATCHES = 8  # from which a new tokenizer's first weights are solved
START_PAIRS = 1024  # from which a new restorer's are


@dataclass(frozen=True)
class Context:
    """What the rows of the table draw on.

    model:    a VARSR, or what else config.model names
    features: of a perceptual loss (see losses/picture.py), or None
    starts:   of first weights, as far as this model is to get them in closed form
    own:      settings that only this kind of model has, see TrainedKind
    sources:  files that the user named beside the pictures
    """

    model: Any
    config: TrainingConfig
    data: TrainingData
    features: Features | None
    starts: Starts
    own: Any = None
    sources: Sources = Sources()

    @property
    def closed_form(self) -> bool:
        """Whether the restorer's first weights are solved for, not drawn or given."""
        return self.starts.restorer is not None


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    name:          of its settings in the configuration, and of its folder in RUN
    loss:          a new module that computes it
    data:          batches from a given step on
    closed_form:   only for models whose restorer starts in closed form
    first_weights: is called before the very first step
    before_step:   is called before each step's losses, with the step's number
    rate_factors:  of the learning rate, for each part that the loss trains
    samples:       what names of sample pictures begin with, where there are some
    """

    name: str
    loss: Callable[[Context], Loss[Any]]
    data: Callable[[TrainingData, LoopSettings, int], Iterator[Any]]
    closed_form: bool = False
    first_weights: Callable[[Context, LoopSettings, Any], None] | None = None
    before_step: Callable[[Context, LoopSettings, Any, int, torch.Generator], None] | None = None
    rate_factors: Callable[[Context, list[nn.Module]], list[float]] | None = None
    samples: str | None = None


def solve_tokenizer(context: Context, settings: LoopSettings, loss: TokenizerLoss) -> None:
    """Encoder and decoder in closed form, from the pictures of the first steps."""
    if context.starts.tokenizer is not None:
        batches = context.data.undivided().pictures(settings, 0)
        pictures = torch.cat([next(batches).pictures for _ in range(START_BATCHES)])
        context.starts.tokenizer(context.model, pictures, loss.settings.deviation)


def solve_prefix(context: Context, settings: LoopSettings, loss: PrefixLoss) -> None:
    """The prefix encoder in closed form."""

    def encode(batch: PairBatch) -> EncodedPair:
        return EncodedPair(batch.lq, batch.classes, encode_target(context.model, batch.target))

    if context.starts.prefix is not None:
        context.starts.prefix(context.model, _first_pairs(context, settings, encode))


def solve_restorer(context: Context, settings: LoopSettings, loss: ISRLoss) -> None:
    """All but the refiner in closed form; the prefix encoder only if it had no stage of its own."""
    if context.starts.restorer is None:
        return
    pairs = _first_pairs(context, settings, loss.inputs)
    if context.config.prefix is None and context.starts.prefix is not None:
        context.starts.prefix(context.model, pairs)
    context.starts.restorer(context.model, pairs)


def _first_pairs(
    context: Context, settings: LoopSettings, encode: Callable[[PairBatch], EncodedPair]
) -> list[EncodedPair]:
    """Good pairs, to solve from.

    Nine in ten are good; one guess for both classes would be too wide for the one and too sure for
    the other.
    """
    batches, pairs = context.data.undivided().good_pairs(settings, 0), []
    while sum(len(pair.classes) for pair in pairs) < START_PAIRS:
        pairs.append(encode(next(batches)))
    return pairs


def revive_dead_codes(
    context: Context, settings: LoopSettings, batch: PictureBatch, step: int, rng: torch.Generator
) -> None:
    """Now and then in the tokenizer's first half, the same codes in all processes."""
    if step % REVIVE_EVERY == 0 and step < REVIVE_UNTIL * settings.steps:
        revive_codes(context.model, of_all_processes(batch.pictures), rng)
        if distributed.is_initialized():  # to the last bit
            distributed.broadcast(context.model.quantizer.codebook.weight.data, 0)


def slow_but_for_refiner(context: Context, trained: list[nn.Module]) -> list[float]:
    """What was solved for knows much already, and would forget it in long steps."""
    solved = context.config.solved_rate
    return [
        solved if context.closed_form and part is not context.model.refiner else 1.0
        for part in trained
    ]


def unseen(context: Context) -> float:
    """Targets lack what cannot be seen only where the restorer starts in closed form."""
    return context.config.unseen if context.closed_form else 1.0


def isr_loss(context: Context) -> ISRLoss:
    config, share = context.config, unseen(context)
    blocks = config.blocks
    return ISRLoss(context.model, config.diffusion_weight, share, config.isr_losses, blocks)


STAGES = (
    Stage(
        name="tokenizer",
        loss=lambda c: TokenizerLoss(c.model, c.config.tokenizer_losses, c.features),
        data=TrainingData.pictures,
        first_weights=solve_tokenizer,
        before_step=revive_dead_codes,
    ),
    Stage(
        name="pretraining",
        loss=lambda c: PretrainingLoss(c.model, c.config.diffusion_weight, blocks=c.config.blocks),
        data=TrainingData.pairs,
    ),
    Stage(
        name="prefix",
        loss=lambda c: PrefixLoss(c.model),
        data=TrainingData.good_pairs,
        closed_form=True,
        first_weights=solve_prefix,
    ),
    Stage(
        name="sight",
        loss=lambda c: PrefixDecoderLoss(c.model, c.config.sight_losses, c.features),
        data=TrainingData.good_pairs,
        closed_form=True,
    ),
    Stage(
        name="isr",
        loss=isr_loss,
        data=TrainingData.pairs,
        first_weights=solve_restorer,
        rate_factors=slow_but_for_refiner,
        samples="sample",
    ),
    Stage(
        name="refiner",
        loss=lambda c: RefinerLoss(c.model, unseen(c)),
        data=TrainingData.good_pairs,
        samples="refined",
    ),
    Stage(
        name="decoder",
        loss=lambda c: DecoderLoss(c.model, c.config.decoder_losses, c.features),
        data=TrainingData.good_pairs,
        samples="decoder",
    ),
)
