"""The loop of every stage: optimiser, schedule, average of weights, checkpoints, log, resume.

Whatever a step draws depends on (seed, step) alone, so a resumed run goes on as an unbroken one.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from tqdm import tqdm

from ..errors import CheckpointError
from ..files.atomic import unfinished_file, whole_file
from ..tiling.noise import derive_seed

logger = logging.getLogger(__name__)

STATE_FILE = "state.pt"
LOG_FILE = "log.csv"


@dataclass(frozen=True)
class LoopSettings:
    """Defaults are the paper's, where it states them."""

    steps: int
    batch: int = 128  # over all processes
    learning_rate: float = 5e-5
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip: float = 2.0
    warmup_share: float = 0.02  # of the steps, from 0.5 % of the learning rate
    flat_share: float = 0.3  # up to here the learning rate stays, then it falls linearly
    final_rate: float = 0.01  # of the learning rate, at the last step
    average: float = 0.0  # decay of the running average of weights that is kept; 0: none
    autocast: bool = True  # matrix products in bf16
    save_every_s: float = 300.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        done = step / self.steps
        if done < self.warmup_share:
            factor = 0.005 + 0.995 * done / self.warmup_share
        elif done < self.flat_share:
            factor = 1.0
        else:
            left = (1 - done) / (1 - self.flat_share)
            factor = self.final_rate + (1 - self.final_rate) * left
        return self.learning_rate * factor


StepFn = Callable[[int, torch.Generator], dict[str, Tensor]]
"""Losses of one step, from its number and a generator of its own; `loss` is minimised."""


def leads() -> bool:
    """Whether this process writes files: the only one, or the first of several."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


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
        groups = self._groups(parts, list(rate_factors) or [1.0] * len(parts))
        self.rate_factors = [group.pop("factor") for group in groups]
        self.optimizer = torch.optim.AdamW(
            groups, lr=0.0, betas=settings.betas, fused=self.parameters[0].is_cuda
        )
        self.average = [p.detach().clone() for p in self.parameters] if settings.average else []
        self.step = 0

    def _groups(self, parts: list[nn.Module], factors: list[float]) -> list[dict[str, Any]]:
        """Parts of the same rate together; weight decay for matrices only, as is usual."""
        groups = []
        for factor in dict.fromkeys(factors):
            chosen = [part for part, own in zip(parts, factors, strict=True) if own == factor]
            parameters = [p for part in chosen for p in part.parameters()]
            for matrices, decay in ((True, self.settings.weight_decay), (False, 0.0)):
                kept = [p for p in parameters if (p.ndim >= 2) == matrices]
                groups.append({"params": kept, "weight_decay": decay, "factor": factor})
        return groups

    def run(self, step: StepFn, until: int | None = None, deadline: float = math.inf) -> bool:
        """Goes on from where the state stands, to `until` or the last step, and saves there.

        deadline: on the clock of time.monotonic(); a later step is not begun
        returns   whether the last step is done
        """
        end = min(until or self.settings.steps, self.settings.steps)
        saved = time.monotonic()
        bar = tqdm(total=self.settings.steps, initial=self.step, disable=not leads())
        while self.step < end and time.monotonic() < deadline:
            losses = self._one(step)
            bar.update()
            bar.set_postfix({name: f"{value:.4f}" for name, value in losses.items()})
            if time.monotonic() - saved > self.settings.save_every_s:
                self.checkpoint()
                saved = time.monotonic()
        bar.close()
        self.checkpoint()
        return self.step == self.settings.steps

    def _one(self, step: StepFn) -> dict[str, float]:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        generator = torch.Generator().manual_seed(
            derive_seed(self.settings.seed, "step", self.step, rank)
        )
        rate = self.settings.rate(self.step)
        for group, factor in zip(self.optimizer.param_groups, self.rate_factors, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        device = self.parameters[0].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.settings.autocast):
            losses = step(self.step, generator)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.optimizer.step()
        for kept, parameter in zip(self.average, self.parameters, strict=False):
            kept.lerp_(parameter.detach(), 1 - self.settings.average)
        self.step += 1
        numbers = {name: float(value.detach()) for name, value in losses.items()}
        if leads():
            self._log({"step": self.step, **numbers, "norm": float(norm), "rate": rate})
        return numbers

    def _log(self, row: dict[str, float]) -> None:
        path = self.folder / LOG_FILE
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row.keys())
            if new:
                writer.writeheader()
            writer.writerow(row)

    def checkpoint(self) -> None:
        """Writes the state, whole or not at all, and the model with the averaged weights."""
        if not leads():
            return
        state = {
            "step": self.step,
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        path = self.folder / STATE_FILE
        with unfinished_file(self.folder) as part, whole_file(path, part):
            torch.save(state, part)
        with self.averaged():
            self.save()

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
                parameter.copy_(stored)
            for kept, stored in zip(self.average, state["average"], strict=False):
                kept.copy_(stored)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self._cut_log()
        logger.info("going on from step %d", self.step)
        return True

    def _cut_log(self) -> None:
        """Drops what an interrupted run logged after its last checkpoint."""
        path = self.folder / LOG_FILE
        if path.exists() and leads():
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(lines[: self.step + 1]))
