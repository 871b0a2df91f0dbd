"""What the user chooses of VARSR's sampling and refining."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..errors import InputError
from ..nn.guidance import (
    CLASS_TO_IMAGE,
    GUIDANCE_SCHEDULES,
    GuidanceRule,
    guidance_ratios,
    parsed_list,
)
from ..nn.schedule import ScaleSchedule
from ..runtime.defaults import AUTO
from .refiner import DIFFUSION_STEPS


@dataclass(frozen=True)
class SampleSettings:
    """The user's choices for next-scale sampling; defaults are the published ones for one tile."""

    guidance: float = AUTO  # at the last scale; 0 halves the work; below 0 times the model's own
    guidance_schedule: GuidanceRule = "linear"
    top_k: int = 1  # 1: greedy; 0: all tokens
    top_p: float = 1.0  # 1: all tokens
    temperature: float = 1.0  # 0: greedy
    quality_class: int = 0  # of the positive rows; the label, of the class-to-image model
    unguided_scales: int = 0  # last scales without guidance, and without its half of the work
    guidance_per_scale: str = ""  # a list in place of guidance_schedule; see nn/guidance.py
    # Logits moved away from those of the scale before: scaled spatial guidance (arXiv 2602.05534),
    # with one strength at all scales but the first and without its sharpening of what came before.
    ssg: float = 0.0
    # A mean of likely tokens in place of one, with noise: `more_smooth` of the public code. Greedy
    # sampling has but one likely token.
    smooth: bool = False

    def __post_init__(self) -> None:
        schedules = ", ".join(GUIDANCE_SCHEDULES)
        _check_guidance(self.guidance)
        _check(
            "guidance_schedule",
            self.guidance_schedule,
            self.guidance_schedule in (*GUIDANCE_SCHEDULES, CLASS_TO_IMAGE),
            f"one of {schedules}",
        )
        _check("top_k", self.top_k, self.top_k >= 0, "0 or more")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 or more")
        _check("unguided_scales", self.unguided_scales, self.unguided_scales >= 0, "0 or more")
        _check("ssg", self.ssg, 0 <= self.ssg < math.inf, "0 or more")
        if self.guidance_per_scale.strip():
            with _named("guidance_per_scale"):
                parsed_list(self.guidance_per_scale)

    def strength(self, schedule: ScaleSchedule, scale: int) -> float:
        """Of guidance at one scale; 0 where the negative rows have no say."""
        if self.guidance < 0:
            raise ValueError("guidance is left to the model: resolve the settings first")
        return self.guidance * self._ratios(schedule)[scale]

    def check_scales(self, schedule: ScaleSchedule) -> None:
        """Raises InputError where `guidance_per_scale` is not for so many scales."""
        self._ratios(schedule)

    def _ratios(self, schedule: ScaleSchedule) -> tuple[float, ...]:
        rule = self.guidance_per_scale.strip() or self.guidance_schedule
        with _named("guidance_per_scale"):
            return guidance_ratios(schedule.num_scales, rule, self.unguided_scales)

    def guided_scales(self, schedule: ScaleSchedule) -> int:
        """How many first scales run with negative rows: up to the last one they have a say in."""
        scales = range(schedule.num_scales)
        return max((k + 1 for k in scales if self.strength(schedule, k) > 0), default=0)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken: then nothing is drawn."""
        return self.top_k == 1 or self.temperature == 0

    def needs_logits(self, scale: int, given: int) -> bool:
        """Whether a scale of which the tokens are given runs the head, for what comes after it."""
        return self.ssg > 0 and scale == given - 1


@dataclass(frozen=True)
class RefineSettings:
    """The user's choices for the refiner; defaults are the published ones."""

    guidance: float = AUTO
    steps: int = 10
    strength: float = 1.0  # factor on the residual; 0 returns the input

    def __post_init__(self) -> None:
        _check_guidance(self.guidance)
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


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


def _check_guidance(value: float) -> None:
    _check(
        "guidance",
        value,
        value < math.inf,
        "0 or more, or below 0 for so many times the model's own",
    )


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise InputError(f"{name} is {value!r}; {expected} is expected")
