"""A training run in a folder: the stages of the table, one after the other; each resumes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from ..checkpoint import save_checkpoint
from ..runtime.precision import without_autocast
from ..varsr.restorer import VARSRRestorer
from .closed_form import Starts
from .config import TrainingConfig
from .data.loading import TrainingData
from .data.pairs import PairBatch
from .loop import STATE_FILE, Loop, LoopSettings, Pass
from .losses.picture import Features
from .memory.saved import on_meta
from .memory.step import tell
from .record.entries import add_record
from .record.evaluation import Evaluation, EvaluationLog
from .record.samples import lone_model, save_samples
from .stage_table import Context, Stage
from .stages.loss import Loss
from .starting.modulation import TABLE
from .starting.sources import Sources
from .steps.draws import StepGenerator
from .steps.passes import passes
from .steps.processes import gathered, is_sharded, leads, parallel
from .trained_kind import stage_settings, trained_kind

logger = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"
TUNED_FILE = "fine_tuned"  # tells a resumed run that its weights came from elsewhere
RESIZED_FILE = "resized"  # the same of tokenizer and prefix encoder alone


class Training:
    """One run in one folder.

    high, low: folders of good and, for the negative of guidance, of bad pictures
    start:     a checkpoint to go on from, or its files, or those of a model to take a part of (see
               starting/starts.py); None for a new model of the configured sizes
    features:  of a perceptual loss (see losses/picture.py), or None
    paired:    folders of low-quality pictures and of their targets, or None to degrade `high`
    evaluation: of what a stage has learned, every so many steps; see config.evaluate_every
    base, texts: see Sources; only for models that take them
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        high: list[Path],
        low: list[Path],
        start: Path | Sequence[Path] | None = None,
        device: torch.device | None = None,
        features: Features | None = None,
        paired: tuple[Path, Path] | None = None,
        evaluation: Evaluation | None = None,
        base: Path | None = None,
        texts: Path | None = None,
    ) -> None:
        device = device or torch.device("cpu")
        self.config, self.folder, self.evaluation = config, folder, evaluation
        self.kind = trained_kind(config.model)
        files = [start] if isinstance(start, Path) else list(start or ())
        first = files[0] if files else None
        own = self.kind.own_settings(config)
        sources = Sources(first, base, texts, further=tuple(files[1:]), folder=folder)
        self.kind.check(sources, config.model)
        new = start is None and not (folder / MODEL_FILE).is_file()
        self.model: Any = self._model(sources).to(device)
        folder.mkdir(parents=True, exist_ok=True)
        if start is not None:
            (folder / TUNED_FILE).touch()
        if leads():
            given = {"high": high, "low": low, "paired": list(paired or ()), "texts": [texts]}
            files += [] if base is None else [base]
            add_record(folder, config, _named(given), files, device)
        data = TrainingData(high, low, self.kind.tile_size(self.model), config, device, paired)
        starts = self._starts(new)
        self.context = Context(self.model, config, data, features, starts, own, sources)

    def _starts(self, new: bool) -> Starts:
        """First weights in closed form, where the model has no better ones."""
        starts = self.kind.starts(self.model)
        if not new:
            starts = starts._replace(tokenizer=None)
        if (self.folder / RESIZED_FILE).exists():
            starts = starts._replace(prefix=None)
        solved = self.config.modulation == TABLE and self.config.pretraining is None
        if (self.folder / TUNED_FILE).exists() or not solved:
            starts = starts._replace(prefix=None, restorer=None)
        return starts

    def _model(self, sources: Sources) -> nn.Module:
        saved = self.folder / MODEL_FILE
        if saved.is_file():
            sources = replace(sources, start=saved, further=(), resumed=True)
        return self.kind.model(self.config, sources)

    def run(self, deadline: float = math.inf) -> bool:
        """All configured stages; those that are done already are passed over.

        deadline: on the clock of time.monotonic(); the run saves and stops there
        returns   whether all stages are done
        """
        for stage in self.kind.stages:
            settings = stage_settings(self.config, self.context.own, stage)
            if settings is None or (stage.closed_form and not self.context.closed_form):
                continue
            if not self._train(stage, settings, deadline):
                return False
            if leads() and not (self.folder / stage.name / MODEL_FILE).exists():
                self._save(self.folder / stage.name / MODEL_FILE)  # as this stage leaves it
        return True

    def _train(self, stage: Stage, settings: LoopSettings, deadline: float) -> bool:
        """One stage, from where its folder stands; returns whether it is done."""
        context, folder = self.context, self.folder / stage.name
        # Made before the stage's state is read: targets keep to the prefix encoder as it is now.
        module = stage.loss(context)
        trained = module.trained()
        if stage.first_weights is not None and not (folder / STATE_FILE).exists():
            # Before the loop copies the weights, for their average and to other processes.
            stage.first_weights(context, settings, module)
        self.model.requires_grad_(False)
        for part in trained:
            part.requires_grad_(True)
        shapes = on_meta(module)  # of what follows no copy can be made
        loss = parallel(module, module.shards(), self.config.parallel)
        loop = self._loop(stage, settings, trained)
        batches = stage.data(context.data, settings, loop.step)
        if loop.step < settings.steps:
            first = next(batches)
            self._tell(stage, shapes, loop, first)
            batches = chain([first], batches)

        evaluated = EvaluationLog(folder, loop.step) if stage.samples and self.evaluation else None

        def step(number: int, generator: StepGenerator) -> Iterator[Pass]:
            every = self.config.evaluate_every
            if evaluated and every and number and number % every == 0:
                self._evaluate(loop, evaluated)
            batch = next(batches)
            if stage.before_step is not None:
                stage.before_step(context, settings, batch, number, generator)
            if stage.samples and number % self.config.samples_every == 0:
                path = self.folder / f"{stage.samples}_{number:07d}.png"
                self._show(loop, batch, path)
            return passes(module, loss, batch, settings, generator)

        done = loop.run(step, deadline=deadline)
        if done and evaluated:
            self._evaluate(loop, evaluated)
        if done:  # later stages build on, and save, the averaged weights
            loop.settle()
            self._take_back(loop)
        return done

    def _tell(self, stage: Stage, module: Loss[Any], loop: Loop, batch: Any) -> None:
        """What a step will take, before the first is taken. Raises InputError."""
        tell(
            module,
            batch,
            loop.settings,
            loop.precision.dtype,
            loop.parameters[0].device,
            checkpointing=self.config.checkpointing,
            sharded=is_sharded(loop.parameters),
            name=stage.name,
        )

    def _show(self, loop: Loop, batch: PairBatch, path: Path) -> None:
        """Sample pictures, by the first process."""
        with gathered(loop.parts):
            if leads():
                save_samples(self._alone(loop), batch.lq, batch.target, path)

    def _evaluate(self, loop: Loop, log: EvaluationLog) -> None:
        """Measures the averaged weights, by the first process, if it has not been done."""
        with loop.averaged(), gathered(loop.parts):
            if leads() and self.evaluation is not None and log.due(loop.step):
                device = loop.parameters[0].device
                restorer = VARSRRestorer(self._alone(loop))
                with torch.no_grad(), without_autocast(device):
                    log.add(loop.step, self.evaluation(restorer))

    def _alone(self, loop: Loop) -> Any:
        """The model, to be run by one process; where others have parts of it, a copy."""
        if not is_sharded(loop.parameters):
            return self.model
        return lone_model(self.model).to(loop.parameters[0].device)

    def _take_back(self, loop: Loop) -> None:
        """After a stage whose weights were shared out: every process has them all again."""
        if not is_sharded(loop.parameters):
            return
        distributed.barrier()  # until the first process has written them
        device = loop.parameters[0].device
        self.model = self._model(self.context.sources).to(device)
        self.context = replace(self.context, model=self.model)

    def _loop(self, stage: Stage, settings: LoopSettings, trained: list[nn.Module]) -> Loop:
        folder = self.folder / stage.name
        folder.mkdir(exist_ok=True)  # every process looks there for a state
        factors = stage.rate_factors(self.context, trained) if stage.rate_factors else ()
        save = partial(self._save, self.folder / MODEL_FILE)
        loop = Loop(trained, settings, folder, save, factors)
        loop.resume()
        logger.info("%s: step %d of %d", stage.name, loop.step, settings.steps)
        return loop

    def _save(self, path: Path) -> None:
        """The model as a file that the Load node takes."""
        if self.kind.beside is not None:
            self.kind.beside(self.model, path)
        save_checkpoint(self.kind.checkpoint(self.model), path, torch.float32, metadata={})


def _named(given: Mapping[str, Sequence[Path | None]]) -> dict[str, list[Path]]:
    """Without what is not given."""
    return {name: [path for path in paths if path is not None] for name, paths in given.items()}
