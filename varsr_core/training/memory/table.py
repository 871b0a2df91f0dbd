"""What each stage of a recipe takes on graphics cards of several sizes, without having one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from ..closed_form import Starts
from ..config import TrainingConfig
from ..data.loading import ClassBatch, TrainingData
from ..data.pairs import PairBatch
from ..data.pictures import PictureBatch
from ..data.small_pairs import SmallPairBatch, small_pairs
from ..loop_settings import LoopSettings
from ..stage_table import Context, Stage
from ..starting.sources import Sources
from ..steps.precision import chosen_dtype
from ..steps.processes import shares_weights
from ..trained_kind import TrainedKind, stage_settings, trained_kind
from .step import GIB, PassMemory, StepMemory, pass_memory, step_memory

NOTHING = Sources()
SPARE = 0.95  # of a card's memory can be had


@dataclass(frozen=True)
class Cards:
    """GPUs that train one model.

    gigabytes: of each, as they are sold
    """

    count: int
    gigabytes: int

    def __str__(self) -> str:
        return f"{self.count} x {self.gigabytes} GB"


CARDS = (Cards(1, 24), Cards(1, 80), Cards(8, 80))


@dataclass(frozen=True)
class Fit:
    """A stage on some cards.

    samples: that each card takes at once, at most its share of a batch
    passes:  that a step then has; 0 where even one sample does not fit
    needed:  on each card; None where it cannot be counted
    """

    stage: str
    cards: Cards
    samples: int
    passes: int
    needed: StepMemory | None


def memory_table(
    config: TrainingConfig, name: str, sources: Sources = NOTHING, model: Any = None
) -> str:
    """Lines that say what each stage of a configuration takes, for every one of CARDS.

    name:    of the configuration
    sources: files that tell sizes; by default they are the configured or the released ones
    model:   on any device; None for a new one, or that of `sources`
    Raises InputError for a configuration whose models have no sizes.
    """
    lines = [
        f"{name}: GiB on each card; samples at once and passes as they fit",
        f"{'stage':<14} {'cards':<10} {'samples':>7} {'passes':>6} {'weights':>8} "
        f"{'gradients':>9} {'optimizer':>9} {'gathered':>8} {'kept':>6} {'work':>6} {'total':>6}",
    ]
    return "\n".join(lines + [_row(fit) for fit in fits(config, sources, model)])


def _row(fit: Fit) -> str:
    start = f"{fit.stage:<14} {fit.cards!s:<10} {fit.samples:>7} {fit.passes or '-':>6}"
    needed = fit.needed
    if needed is None:
        return f"{start} cannot be told before it is taken"
    sizes = (
        (needed.weights, 8),
        (needed.gradients, 9),
        (needed.optimizer, 9),
        (needed.gathered, 8),
        (needed.kept, 6),
        (needed.work, 6),
        (needed.total, 6),
    )
    told = " ".join(f"{size / GIB:>{width}.1f}" for size, width in sizes)
    return f"{start} {told}{'' if fit.passes else '  does not fit'}"


def fits(config: TrainingConfig, sources: Sources = NOTHING, model: Any = None) -> Iterator[Fit]:
    """Every stage of a configuration on every one of CARDS; arguments as of memory_table()."""
    kind = trained_kind(config.model)
    own = kind.own_settings(config)
    if model is None:
        model = _sized(kind, config, sources)
    tile = kind.tile_size(model)
    nothing = TrainingData([], [], tile, config, torch.device("meta"))
    context = Context(model, config, nothing, None, Starts(), own)
    for stage in kind.stages:
        settings = stage_settings(config, own, stage)
        if settings is None or (stage.closed_form and not context.closed_form):
            continue
        counted = Counted(stage, context, settings)
        yield from (counted.on(cards) for cards in CARDS)


def _sized(kind: TrainedKind, config: TrainingConfig, sources: Sources) -> Any:
    """A model without values, but for that of a file."""
    if sources.start or sources.base:
        return kind.model(config, sources)
    with torch.device("meta"):
        return kind.example(config) if kind.example else kind.model(config, sources)


class Counted:
    """A stage, of which passes of one and of two samples are counted; others lie on a line."""

    def __init__(self, stage: Stage, context: Context, settings: LoopSettings) -> None:
        self.stage, self.settings, self.config = stage, settings, context.config
        self.module = stage.loss(context)
        context.model.requires_grad_(False)
        for part in self.module.trained():
            part.requires_grad_(True)
        batch = example_batch(stage, context.data)
        dtype = chosen_dtype(settings.precision, settings.autocast, "cuda")
        again = context.config.checkpointing
        self.passes: list[PassMemory] = []
        # A loss whose work depends on values cannot be counted.
        with suppress(RuntimeError, NotImplementedError):
            self.passes = [
                pass_memory(self.module, batch, samples, dtype, again) for samples in (1, 2)
            ]

    def on(self, cards: Cards) -> Fit:
        """With as many samples at once as fit, in a power of two of passes."""
        share = max(1, self.settings.batch // cards.count)
        passes = min(self.settings.accumulate, share)
        while True:
            samples = -(-share // passes)
            if not self.passes:
                return Fit(self.stage.name, cards, samples, passes, None)
            needed = self._needed(samples, cards.count)
            if needed.total <= SPARE * cards.gigabytes * 1e9:
                return Fit(self.stage.name, cards, samples, passes, needed)
            if samples == 1:
                return Fit(self.stage.name, cards, samples, 0, needed)
            passes = min(2 * passes, share)

    def _needed(self, samples: int, processes: int) -> StepMemory:
        one, two = self.passes
        further = PassMemory(
            one.kept + (samples - 1) * (two.kept - one.kept),
            one.work + (samples - 1) * (two.work - one.work),
        )
        module, wanted = self.module, self.config.parallel
        sharded = shares_weights(module, module.shards(), wanted, "cuda", processes)
        return step_memory(module, further, self.settings, processes=processes, sharded=sharded)


def example_batch(stage: Stage, data: TrainingData) -> Any:
    """One sample without values, as a stage's data give them."""
    picture = torch.empty(1, 3, data.size, data.size, device="meta")
    label = torch.empty(1, dtype=torch.long, device="meta")
    if stage.data is TrainingData.pictures:
        return PictureBatch(picture, label)
    if stage.data is TrainingData.classes:
        return ClassBatch(picture, label)
    if stage.data is small_pairs:
        side = data.size // data.config.degradation.scale
        return SmallPairBatch(picture[:, :, :side, :side], picture, [None])
    return PairBatch(picture, picture, label)
