"""How strong guidance is at each scale: by a rule, or as the user lists it."""

from __future__ import annotations

import math
import re
from typing import Literal, get_args

GuidanceSchedule = Literal["linear", "constant", "quadratic"]
GUIDANCE_SCHEDULES: tuple[str, ...] = get_args(GuidanceSchedule)
GuidanceRule = Literal["linear", "constant", "quadratic", "class-to-image"]
CLASS_TO_IMAGE: GuidanceRule = "class-to-image"  # of that model alone, and no choice of the user's

EXPECTED = 'a number of 0 or more is expected, as in "0, 0.5 x 2, 1 x ..."'
ENTRY = re.compile(r"([0-9.eE+-]+)(?:\s*[x×*]\s*([1-9]\d*|\.\.\.|…))?")  # noqa: RUF001
MAX_LISTED = 64  # more scales than any model has


def guidance_ratios(num_scales: int, rule: str, unguided_scales: int = 0) -> tuple[float, ...]:
    """Strength of guidance at each scale, as fractions of what the user asks for.

    rule: a list, as parsed_list() reads it, or one of
          linear:         k / (K - 1), the paper's; like the next two, 1 at the last scale
          constant:       1
          quadratic:      the square of linear
          class-to-image: (k + 1) / (K - 1), with which the public code samples that model: the
                          first scale is guided too, and the last gets a little more than asked for
    unguided_scales: how many last scales get 0 in any case
    Raises ValueError for a list that is none, or that is not as long as there are scales.
    """
    last = num_scales - 1
    if rule == "constant" or (last == 0 and rule in get_args(GuidanceRule)):
        ratios = (1.0,) * num_scales
    elif rule in ("linear", "quadratic", CLASS_TO_IMAGE):
        first = 1 if rule == CLASS_TO_IMAGE else 0
        ratios = tuple((scale + first) / last for scale in range(num_scales))
        if rule == "quadratic":
            ratios = tuple(ratio * ratio for ratio in ratios)
    else:
        ratios = _filled(parsed_list(rule), num_scales)
    guided = max(0, num_scales - unguided_scales)
    return ratios[:guided] + (0.0,) * (num_scales - guided)


def parsed_list(text: str) -> list[tuple[float, int | None]]:
    """Numbers with how often each is meant; None, of the last one alone: up to the last scale.

    Raises ValueError.
    """
    entries = [entry.strip() for entry in text.split(",")]
    parsed: list[tuple[float, int | None]] = []
    for number, entry in enumerate(entries, 1):
        match = ENTRY.fullmatch(entry)
        if match is None:
            raise ValueError(f"entry {number} is {entry!r}; {EXPECTED}")
        times = _times(match[2])
        if times is None and number < len(entries):
            raise ValueError(f"entry {number} is {entry!r}; only the last one may fill up the rest")
        parsed.append((_ratio(match[1], number), times))
    if sum(times or 0 for _, times in parsed) > MAX_LISTED:
        raise ValueError(f"it lists more than {MAX_LISTED} scales; no model has as many")
    return parsed


def _times(text: str | None) -> int | None:
    if text is None:
        return 1
    return int(text) if text.isdigit() else None


def _ratio(text: str, number: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"entry {number} is {text!r}; {EXPECTED}")
    return value


def _filled(entries: list[tuple[float, int | None]], num_scales: int) -> tuple[float, ...]:
    ratios: list[float] = []
    for ratio, times in entries:
        ratios += [ratio] * (num_scales - len(ratios) if times is None else times)
    if len(ratios) != num_scales:
        raise ValueError(
            f"it lists {len(ratios)} scales; the model has {num_scales}. End it in "
            '"x ..." to fill up the rest'
        )
    return tuple(ratios)
