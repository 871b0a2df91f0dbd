"""What the user chooses of VARSR's sampling and refining."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..errors import InputError
from ..nn.schedule import GUIDANCE_SCHEDULES, GuidanceSchedule, ScaleSchedule
from .refiner import DIFFUSION_STEPS


@dataclass(frozen=True)
class SampleSettings:
    """The user's choices for next-scale sampling; defaults are the published ones for one tile."""

    guidance: float = 6.0  # strength at the last scale; 0 turns it off and halves the work
    guidance_schedule: GuidanceSchedule = "linear"
    top_k: int = 1  # 1: greedy; 0: all tokens
    top_p: float = 1.0  # 1: all tokens
    temperature: float = 1.0  # 0: greedy
    quality_class: int = 0  # of the positive rows
    unguided_scales: int = 0  # last scales without guidance, and without its half of the work

    def __post_init__(self) -> None:
        schedules = ", ".join(GUIDANCE_SCHEDULES)
        _check("guidance", self.guidance, 0 <= self.guidance < math.inf, "0 or more")
        _check(
            "guidance_schedule",
            self.guidance_schedule,
            self.guidance_schedule in GUIDANCE_SCHEDULES,
            f"one of {schedules}",
        )
        _check("top_k", self.top_k, self.top_k >= 0, "0 or more")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 or more")
        _check("unguided_scales", self.unguided_scales, self.unguided_scales >= 0, "0 or more")

    def strength(self, schedule: ScaleSchedule, scale: int) -> float:
        """Of guidance at one scale; 0 where the negative rows have no say."""
        if scale >= schedule.num_scales - self.unguided_scales:
            return 0.0
        return self.guidance * schedule.guidance_ratio(scale, self.guidance_schedule)

    def guided_scales(self, schedule: ScaleSchedule) -> int:
        """How many first scales run with negative rows: up to the last one they have a say in."""
        scales = range(schedule.num_scales)
        return max((k + 1 for k in scales if self.strength(schedule, k) > 0), default=0)


@dataclass(frozen=True)
class RefineSettings:
    """The user's choices for the refiner; defaults are the published ones."""

    guidance: float = 6.0
    steps: int = 10
    strength: float = 1.0  # factor on the residual; 0 returns the input

    def __post_init__(self) -> None:
        _check("guidance", self.guidance, 0 <= self.guidance < math.inf, "0 or more")
        _check("steps", self.steps, 2 <= self.steps <= DIFFUSION_STEPS, f"2 to {DIFFUSION_STEPS}")
        _check("strength", self.strength, math.isfinite(self.strength), "a finite number")

    def for_rows(self, rows: int, *, intended: bool) -> RefineSettings:
        """What can be had of these where the last scale has so many rows a tile.

        Without negative rows there is nothing to push the refiner away from.
        intended: whether who sampled chose to end guidance before the last scale: then the refiner
                  goes without; else it is told, with InputError
        """
        if rows > 1 or not self.guidance or not self.strength:
            return self
        if intended:
            return replace(self, guidance=0.0)
        raise InputError(
            f"guidance {self.guidance:g} needs tokens that were sampled with guidance; these "
            "were sampled without, at the last scale at least. Sample with guidance first, or set "
            "this guidance to 0"
        )


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise InputError(f"{name} is {value!r}; {expected} is expected")
