"""What a stage's loop is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .steps.optimizer import DECAY
from .steps.precision import AUTO, PRECISIONS


@dataclass(frozen=True)
class LoopSettings:
    """Defaults are the paper's, where it states them.

    accumulate: passes in which every process takes its share of a batch, one after the other; the
                step is that of one pass, for losses that are means over samples. All are, but for
                the tokenizer's `spread` and the estimates of `prefix` and `sight`: they measure
                how far the latents of one pass spread.
    precision:  of matrix products: "bf16", "fp16" (with a scale that keeps small gradients), "fp32"
                or "auto": bf16 where `autocast` is set and the device is quick with it
    decay:      which weights decay: "matrices", or as in the "public" code: see steps/optimizer.py
    """

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
    autocast: bool = True  # matrix products in bf16, but on CPUs that only imitate it
    save_every_s: float = 300.0
    seed: int = 0
    accumulate: int = 1
    precision: str = AUTO
    decay: str = DECAY[0]

    def __post_init__(self) -> None:
        if not 1 <= self.accumulate <= self.batch:
            raise InputError(
                f"a batch of {self.batch} cannot be taken in {self.accumulate} passes; choose 1 to "
                f"{self.batch} for accumulate"
            )
        for name, known in (("precision", (AUTO, *PRECISIONS)), ("decay", DECAY)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}; known are {', '.join(known)}")

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
