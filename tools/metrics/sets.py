"""A set of pictures to be measured: where they are, and all measures of all of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.metrics import scoring
from tools.metrics.case import Case
from tools.metrics.catalogue import LOW, REFERENCE
from tools.metrics.folders import SHOWN, matched, opened, pictures, size_of
from varsr_core.errors import InputError


@dataclass(frozen=True)
class Picture:
    """Where one picture of a set is; None for what there is not."""

    result: Path
    reference: Path | None = None
    low: Path | None = None

    def case(self, border: int) -> Case:
        reference, low = (opened(path) if path else None for path in (self.reference, self.low))
        return Case(opened(self.result), reference, low, border)


def gathered(
    results: Path, references: Path | None, low: Path | None, only: Collection[str] | None = None
) -> dict[str, Picture]:
    """Results with what belongs to them, of right sizes. Raises InputError.

    only: names of results that count; None for all
    """
    made = pictures(results)
    if only is not None:
        made = {name: path for name, path in made.items() if name in only}
    found = {name: Picture(path) for name, path in made.items()}
    for folder, kind in ((references, REFERENCE), (low, LOW)):
        if folder is None:
            continue
        there = pictures(folder)
        partners = matched(made, there, folder)
        if left := sorted(set(there) - set(partners.values())):
            print(f"{len(left)} of {folder} have no result: {', '.join(left[:SHOWN])}")
        found = {
            name: Picture(**{**vars(one), kind: there[partners[name]]})
            for name, one in found.items()
        }
    for one in found.values():
        _check_size(one)
    return found


def _check_size(one: Picture) -> None:
    if one.reference is None:
        return
    width, height = size_of(one.result)
    other_width, other_height = size_of(one.reference)
    if (width, height) != (other_width, other_height):
        raise InputError(
            f"{one.result} is {width}x{height}, and its reference {one.reference} is "
            f"{other_width}x{other_height}; pixels are compared: make both of one size"
        )


def score_set(
    found: Mapping[str, Picture],
    loaded: Sequence[scoring.Loaded],
    border: int,
    of_model: Mapping[str, float],
) -> dict[str, scoring.Row]:
    """See `scoring.score`."""
    warnings.simplefilter("ignore")  # of the packages, about their own imports
    cases: dict[str, Callable[[], Case]] = {
        name: lambda one=one: one.case(border) for name, one in found.items()
    }
    return scoring.score(loaded, cases, of_model)
