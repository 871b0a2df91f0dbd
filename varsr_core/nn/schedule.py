"""The schedule of token maps: which sides, how many tokens, how guidance grows over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

GuidanceSchedule = Literal["linear", "constant", "quadratic"]
GUIDANCE_SCHEDULES: tuple[str, ...] = get_args(GuidanceSchedule)


@dataclass(frozen=True)
class ScaleSchedule:
    """Square token maps of growing side, predicted one after the other (paper, section 3.1)."""

    sides: tuple[int, ...]

    def __post_init__(self) -> None:
        growing = all(a < b for a, b in zip(self.sides, self.sides[1:], strict=False))
        if not self.sides or self.sides[0] != 1 or not growing:
            raise ValueError(f"a schedule starts at side 1 and grows; got {self.sides}")

    @property
    def num_scales(self) -> int:
        return len(self.sides)

    @property
    def final_side(self) -> int:
        return self.sides[-1]

    @property
    def num_tokens(self) -> int:
        """Tokens of all scales together."""
        return sum(side * side for side in self.sides)

    def guidance_ratio(self, scale: int, schedule: GuidanceSchedule = "linear") -> float:
        """Fraction of the full guidance strength at `scale`; always 1 at the last one.

        Linear is the paper's; quadratic is what the class-to-image base model was sampled with.
        """
        if schedule not in GUIDANCE_SCHEDULES:
            raise ValueError(f"guidance schedule {schedule!r} is none of {GUIDANCE_SCHEDULES}")
        if schedule == "constant" or self.num_scales == 1:
            return 1.0
        ratio = scale / (self.num_scales - 1)
        return ratio if schedule == "linear" else ratio * ratio
