"""The stages of a training run, one after the other, each of which resumes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from ..checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from ..varsr.family import VARSR_FAMILY
from ..varsr.model import VARSR
from ..varsr.weights import build_model, sized_weights
from .closed_form.prefix import prefix_start
from .closed_form.prefix_stage import PrefixLoss
from .closed_form.restorer import restorer_fits, restorer_start
from .closed_form.stream_places import Sample
from .closed_form.tokenizer import fits, linear_start
from .closed_form.visible_target import VisibleTarget
from .config import TrainingConfig
from .data.pairs import PairFolder
from .data.pictures import PictureFolder, batches
from .loop import STATE_FILE, Loop, LoopSettings, StepFn, leads
from .losses.picture import Features
from .new_model import config_from_json, new_model
from .samples import save_samples
from .stages.decoder import DecoderLoss, SightLoss
from .stages.restorer import ISRLoss
from .stages.tokenizer import TokenizerLoss, revive_codes

logger = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"
TUNED_FILE = "fine_tuned"  # tells a resumed run that its weights came from elsewhere
REVIVE_EVERY = 100  # steps between looks for dead codes
START_BATCHES = 8  # from which a new tokenizer's first weights are solved
START_PAIRS = 1024  # from which a new restorer's are
SOLVED = 0.1  # share of the learning rate for a restorer whose first weights were solved for
REVIVE_SHARE = 0.5  # of the tokenizer's steps; codes are left to settle after that


class Training:
    """One run in one folder.

    high, low: folders of good and, for the negative of guidance, of bad pictures
    start:     a checkpoint to go on from, or None for a new model of the configured sizes
    features:  of a perceptual loss (see picture_loss.py), or None
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
        self.features = features
        self.config, self.folder, self.high, self.low = config, folder, high, low
        self.device = device or torch.device("cpu")
        self.new = start is None and not (folder / MODEL_FILE).is_file()
        self.model = self._model(start).to(self.device)
        folder.mkdir(parents=True, exist_ok=True)
        if start is not None:
            (folder / TUNED_FILE).touch()
        self.solved = (
            not (folder / TUNED_FILE).exists()
            and config.pretraining is None
            and restorer_fits(self.model.config)
        )

    def _model(self, start: Path | None) -> VARSR:
        saved = self.folder / MODEL_FILE
        if saved.is_file():
            start = saved
        if start is None:
            return new_model(config_from_json(self.config.sizes), self.config.seed)
        weights = load_checkpoint([start], VARSR_FAMILY).tensors
        model = build_model(weights)
        for parameter in model.parameters():  # mapped from the file, which is written again
            parameter.data = parameter.data.clone()
        return model

    def run(self, deadline: float = math.inf) -> bool:
        """All configured stages; those that are done already are passed over.

        deadline: on the clock of time.monotonic(); the run saves and stops there
        returns   whether all stages are done
        """
        stages = (
            ("tokenizer", self.config.tokenizer, self._tokenizer),
            ("pretraining", self.config.pretraining, self._next_scale),
            ("prefix", self.config.prefix if self.solved else None, self._prefix),
            ("sight", self.config.sight if self.solved else None, self._decoder),
            ("isr", self.config.isr, self._next_scale),
            ("decoder", self.config.decoder, self._decoder),
        )
        for name, settings, train in stages:
            if settings is None:
                continue
            if not train(name, settings, deadline):
                return False
            if leads() and not (self.folder / name / MODEL_FILE).exists():
                self._save(self.folder / name / MODEL_FILE)  # as this stage leaves it
        return True

    def _tokenizer(self, name: str, settings: LoopSettings, deadline: float) -> bool:
        module = TokenizerLoss(self.model, self.config.tokenizer_losses, self.features)
        if self.new and fits(self.model.config.tokenizer):
            # Before the loop copies the weights, for their average and to other processes.
            batches = self._batches(self._pictures(), settings, 0)
            first = torch.cat([next(batches).picture for _ in range(START_BATCHES)])
            deviation = self.config.tokenizer_losses.deviation
            linear_start(self.model, first.to(self.device), deviation)
        loop = self._loop(name, module.trained(), settings)
        loss = _parallel(module)
        pictures = self._batches(self._pictures(), settings, loop.step)

        def step(number: int, generator: torch.Generator) -> dict[str, Tensor]:
            batch = next(pictures).picture.to(self.device)
            if number % REVIVE_EVERY == 0 and number < REVIVE_SHARE * settings.steps:
                revive_codes(self.model, batch, generator)
                if distributed.is_initialized():  # each process saw other pictures
                    distributed.broadcast(self.model.quantizer.codebook.weight.data, 0)
            return loss(batch, generator)

        return _finish(loop, step, deadline)

    def _prefix(self, name: str, settings: LoopSettings, deadline: float) -> bool:
        if not (self.folder / name / STATE_FILE).exists():
            prefix_start(self.model, self._samples(settings, VisibleTarget(self.model, 1.0)))
        module = PrefixLoss(self.model)
        loop = self._loop(name, module.trained(), settings)
        loss = _parallel(module)
        pairs = self._pairs(settings, loop.step, good=True)

        def step(number: int, generator: torch.Generator) -> dict[str, Tensor]:
            lq, target, _ = next(pairs)
            with torch.no_grad():
                latent = self.model.encode_latent(target)
            return loss(lq, latent)

        return _finish(loop, step, deadline)

    def _samples(self, settings: LoopSettings, encode: VisibleTarget) -> list[Sample]:
        """What the restorer's first weights are solved from: good pictures, which are nine in ten.

        One guess for both classes would be too wide for the one and too sure for the other.
        """
        pairs = self._pairs(settings, 0, good=True)
        samples = []
        while sum(len(classes) for _, classes, _ in samples) < START_PAIRS:
            lq, target, classes = next(pairs)
            samples.append((lq, classes, encode(lq, target, classes)))
        return samples

    def _next_scale(self, name: str, settings: LoopSettings, deadline: float) -> bool:
        restoring = name == "isr"
        # Made before the stage's state is taken up: the prefix as the stages before have left it.
        encode = VisibleTarget(self.model, self.config.unseen if restoring and self.solved else 1.0)
        if restoring and self.solved and not (self.folder / name / STATE_FILE).exists():
            samples = self._samples(settings, encode)
            if self.config.prefix is None:
                prefix_start(self.model, samples)
            restorer_start(self.model, samples)
        module = ISRLoss(self.model, self.config.diffusion_weight)
        parts = module.trained()
        # All but the refiner, which is drawn, know much already and would forget it in long steps.
        solved = restoring and self.solved
        shares = [1.0 if part is self.model.refiner or not solved else SOLVED for part in parts]
        loop = self._loop(name, parts, settings, shares)
        loss = _parallel(module)
        pairs = self._pairs(settings, loop.step)

        def step(number: int, generator: torch.Generator) -> dict[str, Tensor]:
            lq, target, classes = next(pairs)
            if not restoring:  # nothing to see: the model learns what pictures look like
                lq = torch.full_like(target, 0.5)
            encoded = encode(lq, target, classes)
            losses = loss(lq, classes, encoded, generator)
            if restoring and loop.leads and number % self.config.samples_every == 0:
                save_samples(self.model, lq, target, self.folder / f"sample_{number:07d}.png")
            return losses

        return _finish(loop, step, deadline)

    def _decoder(self, name: str, settings: LoopSettings, deadline: float) -> bool:
        if name == "sight":
            module = SightLoss(self.model, self.config.sight_losses, self.features)
        else:
            module = DecoderLoss(self.model, self.config.decoder_losses, self.features)
        loop = self._loop(name, module.trained(), settings)
        loss = _parallel(module)
        pairs = self._pairs(settings, loop.step, good=True)

        def step(number: int, generator: torch.Generator) -> dict[str, Tensor]:
            lq, target, _ = next(pairs)
            losses = loss(lq, target, generator)
            if name == "decoder" and loop.leads and number % self.config.samples_every == 0:
                save_samples(self.model, lq, target, self.folder / f"decoder_{number:07d}.png")
            return losses

        return _finish(loop, step, deadline)

    def _loop(
        self,
        name: str,
        parts: list[torch.nn.Module],
        settings: LoopSettings,
        shares: Sequence[float] = (),
    ) -> Loop:
        self.model.requires_grad_(False)
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        loop = Loop(parts, settings, folder, lambda: self._save(self.folder / MODEL_FILE), shares)
        loop.resume()
        logger.info("%s: step %d of %d", name, loop.step, settings.steps)
        return loop

    def _pictures(self, good: bool = False) -> PictureFolder:
        """Crops of the one size the model knows; of good pictures alone, or of bad ones too."""
        several = distributed.is_initialized()
        return PictureFolder(
            self.high,
            [] if good else self.low,
            self.model.config.tile_size,
            negative_share=0.0 if good or self.low else self.config.negative_share,
            settings=self.config.degradation,
            zoom=self.config.zoom,
            cache=self.config.cache,
            rank=distributed.get_rank() if several else 0,
            world_size=distributed.get_world_size() if several else 1,
        )

    def _pairs(
        self, settings: LoopSettings, first: int, good: bool = False
    ) -> Iterator[tuple[Tensor, ...]]:
        """Bad picture, good picture and quality class on this device, batch by batch."""
        for batch in self._batches(PairFolder(self._pictures(good)), settings, first):
            yield tuple(part.to(self.device) for part in batch)

    def _batches(self, dataset: Dataset, settings: LoopSettings, first: int) -> Iterator:
        """Batches of this process from step `first` on."""
        several = distributed.is_initialized()
        size = max(1, settings.batch // (distributed.get_world_size() if several else 1))
        return batches(dataset, size, self.config.seed, first, self.config.workers)

    def _save(self, path: Path) -> None:
        """The model as a file that the Load node takes."""
        tensors = sized_weights(self.model)
        checkpoint = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
        save_checkpoint(checkpoint, path, torch.float32, metadata={})


def _finish(loop: Loop, step: StepFn, deadline: float) -> bool:
    """Runs a loop; later stages build on, and save, the averaged weights of those before."""
    done = loop.run(step, deadline=deadline)
    if done:
        loop.settle()
    return done


def _parallel(module: torch.nn.Module) -> torch.nn.Module:
    """Gradients averaged over processes, where there are several."""
    if not distributed.is_initialized():
        return module
    return DistributedDataParallel(module, find_unused_parameters=True)
