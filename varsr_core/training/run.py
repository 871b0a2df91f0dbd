"""A training run in a folder: the stages of the table, one after the other; each resumes."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from ..varsr.family import VARSR_FAMILY
from ..varsr.model import VARSR
from ..varsr.weights import build_model, sized_weights
from .closed_form import Starts, closed_form_starts
from .config import TrainingConfig
from .data.loading import TrainingData
from .loop import STATE_FILE, Loop, LoopSettings, leads
from .losses.picture import Features
from .new_model import config_from_json, new_model
from .samples import save_samples
from .stage_table import STAGES, Context, Stage

logger = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"
TUNED_FILE = "fine_tuned"  # tells a resumed run that its weights came from elsewhere


class Training:
    """One run in one folder.

    high, low: folders of good and, for the negative of guidance, of bad pictures
    start:     a checkpoint to go on from, or None for a new model of the configured sizes
    features:  of a perceptual loss (see losses/picture.py), or None
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        high: list[Path],
        low: list[Path],
        start: Path | None = None,
        device: torch.device | None = None,
        features: Features | None = None,
    ) -> None:
        device = device or torch.device("cpu")
        self.config, self.folder = config, folder
        new = start is None and not (folder / MODEL_FILE).is_file()
        self.model = self._model(start).to(device)
        folder.mkdir(parents=True, exist_ok=True)
        if start is not None:
            (folder / TUNED_FILE).touch()
        data = TrainingData(high, low, self.model.config.tile_size, config, device)
        self.context = Context(self.model, config, data, features, self._starts(new))

    def _starts(self, new: bool) -> Starts:
        """First weights in closed form, where the model has no better ones."""
        starts = closed_form_starts(self.model.config)
        if not new:
            starts = starts._replace(tokenizer=None)
        if (self.folder / TUNED_FILE).exists() or self.config.pretraining is not None:
            starts = starts._replace(prefix=None, restorer=None)
        return starts

    def _model(self, start: Path | None) -> VARSR:
        saved = self.folder / MODEL_FILE
        if saved.is_file():
            start = saved
        if start is None:
            return new_model(config_from_json(self.config.sizes), self.config.seed)
        tensors = load_checkpoint([start], VARSR_FAMILY).tensors
        # Copies: the tensors are mapped from the file, which is written again.
        return build_model({name: tensor.detach().clone() for name, tensor in tensors.items()})

    def run(self, deadline: float = math.inf) -> bool:
        """All configured stages; those that are done already are passed over.

        deadline: on the clock of time.monotonic(); the run saves and stops there
        returns   whether all stages are done
        """
        for stage in STAGES:
            settings: LoopSettings | None = getattr(self.config, stage.name)
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
        if stage.first_weights is not None and not (folder / STATE_FILE).exists():
            # Before the loop copies the weights, for their average and to other processes.
            stage.first_weights(context, settings, module)
        loop = self._loop(stage, settings, module.trained())
        loss = _parallel(module)
        batches = stage.data(context.data, settings, loop.step)

        def step(number: int, generator: torch.Generator) -> dict[str, Tensor]:
            batch = next(batches)
            if stage.before_step is not None:
                stage.before_step(context, settings, batch, number, generator)
            losses = loss(*module.inputs(batch), generator)
            if stage.samples and leads() and number % self.config.samples_every == 0:
                path = self.folder / f"{stage.samples}_{number:07d}.png"
                save_samples(self.model, batch.lq, batch.target, path)
            return losses

        done = loop.run(step, deadline=deadline)
        if done:  # later stages build on, and save, the averaged weights
            loop.settle()
        return done

    def _loop(self, stage: Stage, settings: LoopSettings, trained: list[nn.Module]) -> Loop:
        self.model.requires_grad_(False)
        folder = self.folder / stage.name
        folder.mkdir(exist_ok=True)
        factors = stage.rate_factors(self.context, trained) if stage.rate_factors else ()
        save = partial(self._save, self.folder / MODEL_FILE)
        loop = Loop(trained, settings, folder, save, factors)
        loop.resume()
        logger.info("%s: step %d of %d", stage.name, loop.step, settings.steps)
        return loop

    def _save(self, path: Path) -> None:
        """The model as a file that the Load node takes."""
        tensors = sized_weights(self.model)
        checkpoint = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
        save_checkpoint(checkpoint, path, torch.float32, metadata={})


def _parallel(module: nn.Module) -> nn.Module:
    """Gradients averaged over processes, where there are several."""
    if not distributed.is_initialized():
        return module
    return DistributedDataParallel(module, find_unused_parameters=True)
