"""The loop of every stage: optimiser, schedule, average of weights, checkpoints, log, resume.

Whatever a step draws depends on (seed, step) alone, so a resumed run goes on as an unbroken one,
also with another number of processes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import CheckpointError
from ..files.atomic import unfinished_file, whole_file
from ..tiling.noise import derive_seed
from .loop_settings import LoopSettings
from .record.log import LOG_FILE, StepLog
from .steps.draws import StepGenerator
from .steps.optimizer import parameter_groups
from .steps.precision import Precision, chosen_dtype
from .steps.processes import agreed, gathered, is_sharded, leads, part_like, summed, whole

logger = logging.getLogger(__name__)

STATE_FILE = "state.pt"


@dataclass(frozen=True)
class Pass:
    """Losses of some samples of a step, `loss` among them, to be minimised.

    weight: of the losses in the step's, for this process
    share:  of the samples in the whole batch
    """

    losses: dict[str, Tensor]
    weight: float = 1.0
    share: float = 1.0


StepFn = Callable[[int, StepGenerator], dict[str, Tensor] | Iterator[Pass]]
"""Losses of one step, from its number and a generator of its own: of all samples at once, or of
some after the other, where the gradient of each is taken before the next is computed."""


class Loop:
    """Trains the parameters of `parts` by whatever `step` computes.

    folder:       gets state.pt (all it takes to go on) and log.csv
    save:         writes the model; called with every checkpoint, with the average in place
    rate_factors: of the learning rate, one for each part; 1 for all where there are none
    """

    def __init__(
        self,
        parts: list[nn.Module],
        settings: LoopSettings,
        folder: Path,
        save: Callable[[], None],
        rate_factors: Sequence[float] = (),
    ) -> None:
        self.settings, self.folder, self.save = settings, folder, save
        self.parameters = [p for part in parts for p in part.parameters()]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        factors = list(rate_factors) or [1.0] * len(parts)
        groups = parameter_groups(parts, factors, settings.weight_decay, settings.decay)
        self.parts = parts
        self.rate_factors = [group.pop("factor") for group in groups]
        device = self.parameters[0].device.type
        self.optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=settings.betas, fused=self.parameters[0].is_cuda
        )
        dtype = chosen_dtype(settings.precision, settings.autocast, device)
        self.precision = Precision(dtype, device)
        self.average = [p.detach().clone() for p in self.parameters] if settings.average else []
        self.log = StepLog(folder, LOG_FILE) if leads() else None
        self.step = 0

    def run(self, step: StepFn, until: int | None = None, deadline: float = math.inf) -> bool:
        """Goes on from where the state stands, to `until` or the last step, and saves there.

        deadline: on the clock of time.monotonic(); a later step is not begun
        returns   whether the last step is done
        """
        end = min(until or self.settings.steps, self.settings.steps)
        saved = time.monotonic()
        bar = tqdm(total=self.settings.steps, initial=self.step, disable=not leads())
        while self.step < end and agreed(time.monotonic() < deadline):
            losses = self._one(step)
            bar.update()
            bar.set_postfix({name: f"{value:.4f}" for name, value in losses.items()})
            if agreed(time.monotonic() - saved > self.settings.save_every_s):
                self.checkpoint()
                saved = time.monotonic()
        bar.close()
        self.checkpoint()
        return self.step == self.settings.steps

    def _one(self, step: StepFn) -> dict[str, float]:
        generator = StepGenerator()
        # The number of the process once stood last; of a single one it was 0.
        generator.manual_seed(derive_seed(self.settings.seed, "step", self.step, 0))
        rate = self.settings.rate(self.step)
        for group, factor in zip(self.optimizer.param_groups, self.rate_factors, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        passes = [
            Pass({name: value.detach() for name, value in one.losses.items()}, share=one.share)
            for one in self._passes(step, generator)
        ]
        norm = self.precision.update(self.optimizer, self.parameters, self.settings.clip)
        for kept, parameter in zip(self.average, self.parameters, strict=False):
            kept.lerp_(parameter.detach(), 1 - self.settings.average)
        self.step += 1
        numbers = _means(passes)
        if self.log is not None:
            self.log.add({"step": self.step, **numbers, "norm": float(norm), "rate": rate})
        return numbers

    def _passes(self, step: StepFn, generator: StepGenerator) -> Iterator[Pass]:
        """Every pass of a step, when its gradient has been added up."""
        with self.precision.autocast():
            computed = step(self.step, generator)
        passes = iter(computed) if not isinstance(computed, dict) else iter([Pass(computed)])
        while True:
            with self.precision.autocast():
                one = next(passes, None)
            if one is None:
                return
            loss = one.losses["loss"]
            self.precision.backward(loss if one.weight == 1 else one.weight * loss)
            yield one

    def checkpoint(self) -> None:
        """Writes the state, whole or not at all, and the model with the averaged weights.

        Every process is to call it, for each may keep a part of the weights; the first one writes.
        """
        state = self._state()
        path = self.folder / STATE_FILE
        if leads():
            with unfinished_file(self.folder) as part, whole_file(path, part):
                torch.save(state, part)
        del state
        with self.averaged(), gathered(self.parts):
            if leads():
                self.save()

    @torch.no_grad()
    def _state(self) -> dict[str, Any]:
        """All it takes to go on, whole, whatever the number of processes."""
        optimizer = self.optimizer.state_dict()
        moments = {
            number: {name: _kept(value) for name, value in state.items()}
            for number, state in optimizer["state"].items()
        }
        state = {
            "step": self.step,
            "parameters": [_kept(p) for p in self.parameters],
            "average": [_kept(a) for a in self.average],
            "optimizer": {**optimizer, "state": moments},
        }
        scaler = self.precision.state()
        return {**state, "scaler": scaler} if scaler else state

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the model has its averaged weights, where an average is kept."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, kept in zip(self.parameters, self.average, strict=False):
            current = parameter.detach().clone()
            parameter.copy_(kept)
            kept.copy_(current)

    @torch.no_grad()
    def settle(self) -> None:
        """Puts the average in place for good, for what comes after the last step."""
        for parameter, kept in zip(self.parameters, self.average, strict=False):
            parameter.copy_(kept)

    def resume(self) -> bool:
        """Takes the state of an earlier run, if there is one. Raises CheckpointError."""
        path = self.folder / STATE_FILE
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        shapes = [tuple(p.shape) for p in self.parameters]
        if [tuple(p.shape) for p in state["parameters"]] != shapes:
            raise CheckpointError(
                f"{path} is of a model of other sizes; move it away to start anew"
            )
        with torch.no_grad():
            for parameter, stored in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(part_like(stored, parameter))
            for kept, stored in zip(self.average, state["average"], strict=False):
                kept.copy_(part_like(stored, kept))
        self.optimizer.load_state_dict(self._parts_of(state["optimizer"]))
        self.precision.resume(state.get("scaler", {}))
        self.step = state["step"]
        if self.log is not None:
            self.log.cut(self.step)
        logger.info("going on from step %d", self.step)
        return True

    def _parts_of(self, optimizer: dict[str, Any]) -> dict[str, Any]:
        """Of a whole optimiser's state what this process keeps; numbered as its groups are."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments = {
            number: {
                name: part_like(value, parameters[number]) if value.ndim else value
                for name, value in state.items()
            }
            for number, state in optimizer["state"].items()
        }
        return {**optimizer, "state": moments}


def _means(passes: Sequence[Pass]) -> dict[str, float]:
    """Losses of the whole batch, from those of all passes of all processes."""
    names = list(passes[0].losses)
    means = [sum(one.share * float(one.losses[name]) for one in passes) for name in names]
    return dict(zip(names, summed(means), strict=True))


def _kept(tensor: Tensor) -> Tensor:
    """A whole tensor, for the process that writes; in system memory where it was gathered."""
    if not is_sharded([tensor]):
        return tensor.detach()
    full = whole(tensor)
    return full.cpu() if leads() else full.new_empty(0)
