"""Bad pictures by opinion scores, from a table with the header `file,score,set`.

The rule of VARSR's authors: a picture of a rated set is of the low class when its score is below
min + share * (max - min) of its set. Higher scores are better pictures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from .tables import Places, read_table

PUBLIC_SHARES: Mapping[str, float] = {
    "SPAQ": 0.4,
    "KonIQ": 0.6,
    "KonIQ-10k": 0.6,
    "CLIVE": 0.6,
    "KADID-10k": 0.6,
    "FLIVE pictures": 0.6,
    "FLIVE patches": 0.5,
    "AVA": 0.32,
}


class Rated(NamedTuple):
    """bad: pictures of the low class; good: the others; both that are there, sorted"""

    bad: list[Path]
    good: list[Path]


def read_scores(
    table: Path, folders: Sequence[str | Path], shares: Mapping[str, float] | None = None
) -> Rated:
    """Pictures of a table, told apart by the rule above; the ends of a set are of its whole table.

    shares: by the name of the set, beside and before the public ones; names are compared without
            regard to case, spaces and hyphens

    Files that are missing are counted and passed over. Raises InputError that names the line.
    """
    known = {_plain(name): share for name, share in {**PUBLIC_SHARES, **(shares or {})}.items()}
    places = Places(table, folders)
    ends: dict[str, tuple[float, float]] = {}
    found: dict[Path, tuple[float, str]] = {}
    for where, (name, value, rated_set) in read_table(table, ("file", "score", "set")):
        score, kind = _number(value, where), _plain(rated_set)
        if kind not in known:
            raise InputError(
                f"{where}: found set {rated_set!r}, expected one of {', '.join(PUBLIC_SHARES)}, or "
                "one that `score_shares` of the data has a share for"
            )
        low, high = ends.get(kind, (score, score))
        ends[kind] = min(low, score), max(high, score)
        path = places.find(name)
        if path is not None and found.setdefault(path, (score, kind)) != (score, kind):
            raise InputError(f"{where}: found another score for {name} than on an earlier line")
    places.check()
    limits = {kind: low + known[kind] * (high - low) for kind, (low, high) in ends.items()}
    rated = Rated([], [])
    for path in sorted(found):
        score, kind = found[path]
        (rated.bad if score < limits[kind] else rated.good).append(path)
    if not rated.bad:
        raise InputError(
            f"no picture of {table} has a score below the limit of its set: expected are higher "
            "scores for better pictures, and all pictures of a set"
        )
    return rated


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _number(value: str, where: str) -> float:
    try:
        score = float(value)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"{where}: found score {value!r}, expected a number")
    return score
