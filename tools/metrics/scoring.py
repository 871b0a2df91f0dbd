"""Measures chosen by name, loaded before any work is done, and applied to pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.metrics import networks
from tools.metrics.case import Case, Measure, Unmeasurable
from tools.metrics.catalogue import LOW, MODEL, PICTURE, PYIQA, REFERENCE, SET, Metric, named
from varsr_core.errors import InputError

MEAN = "mean"  # the row of means, and of what is of no single picture
REQUIREMENTS = "tools/requirements-evaluate.txt"
GIVEN_BY = {
    REFERENCE: "a folder of references",
    LOW: "the folder of inputs, --low",
    MODEL: "a model, or with --grey what one made of the noisy grey",
}

Row = dict[str, float | None]  # None: it could not be measured


@dataclass(frozen=True)
class Loaded:
    """A measure that is ready; `run` takes a Case, or, of a set, all of them; None: of a model."""

    metric: Metric
    run: Callable[[Any], float] | None


def load(
    names: Sequence[str], given: Collection[str], *, lenient: bool, fetch: bool, device: str = "cpu"
) -> list[Loaded]:
    """The measures of these names, once each.

    given:   what there is of REFERENCE, LOW and MODEL
    lenient: leave out what cannot be had, and print why; else it is an InputError
    """
    metrics = list(dict.fromkeys(named(name) for name in names))
    asked = [metric.inner for metric in metrics if metric.package == PYIQA]
    pyiqa = networks.load(list(dict.fromkeys(asked)), fetch, device)
    found = []
    for metric in (_told_by(metric, pyiqa) for metric in metrics):
        lacks = [need for need in (*metric.needs, metric.of) if need in GIVEN_BY]
        lacks = [GIVEN_BY[need] for need in lacks if need not in given]
        if lacks and lenient:
            continue
        if lacks:
            raise InputError(f"{metric.title} needs {' and '.join(lacks)}")
        try:
            found.append(Loaded(metric, _run(metric, pyiqa)))
        except ImportError as error:
            said = f"{error}; pip install -r {REQUIREMENTS}"
            if not lenient:
                raise InputError(f"{metric.title}: {said}") from error
            print(f"left out: {metric.title}: {said}")
    return found


def _told_by(metric: Metric, pyiqa: Mapping[str, Any]) -> Metric:
    """With what only pyiqa knows of a measure that has no row in the catalogue."""
    if metric.says:
        return metric
    network = pyiqa[metric.inner]
    paired = getattr(network, "metric_mode", "NR") == "FR"
    return replace(metric, more=not network.lower_better, needs=(REFERENCE,) if paired else ())


def _run(metric: Metric, pyiqa: Mapping[str, Any]) -> Callable[[Any], float] | None:
    if metric.make:
        return metric.make()
    if metric.of == MODEL:
        return None
    network = pyiqa[metric.inner]
    if metric.of == SET:
        return networks.of_set(network)
    return networks.of_pair(network) if metric.needs else networks.of_result(network)


@torch.inference_mode()
def score(
    loaded: Sequence[Loaded],
    cases: Mapping[str, Callable[[], Case]],
    of_model: Mapping[str, float] | None = None,
) -> dict[str, Row]:
    """All measures of all pictures, and in row MEAN their means and what is of all at once.

    of_model: values, by title, that were found elsewhere
    """
    if MEAN in cases:
        raise InputError(f"a picture is called {MEAN}, as the row of means is; rename it")
    rows: dict[str, Row] = {}
    notes: dict[str, None] = {}
    single = [one for one in loaded if one.metric.of == PICTURE]
    for name, case in cases.items():
        opened = case()
        rows[name] = {one.metric.title: _value(one.run, opened, notes) for one in single}
    for note in notes:
        print(f"not measured (-): {note}")
    found = means(rows)
    sets = [one for one in loaded if one.metric.of == SET]
    for one in sets:
        assert one.run is not None
        found[one.metric.title] = one.run(case() for case in cases.values())
    return rows | {MEAN: found | dict(of_model or {})}


def _value(measure: Measure | None, case: Case, notes: dict[str, None]) -> float | None:
    assert measure is not None
    try:
        value = measure(case)
    except Unmeasurable as reason:
        notes[str(reason)] = None
        return None
    if math.isnan(value):
        return None
    return value


def means(rows: Mapping[str, Row]) -> Row:
    """Of every measure that the first picture was given."""
    return {title: _mean(rows, title) for title in next(iter(rows.values()), {})}


def _mean(rows: Mapping[str, Row], title: str) -> float | None:
    values = [value for row in rows.values() if (value := row[title]) is not None]
    return float(np.mean(values)) if values else None


def table(rows: Mapping[str, Row], titles: Sequence[str] = ()) -> str:
    """A line for each row, of the titles that row MEAN has, or of those given."""
    titles, width = titles or list(rows[MEAN]), max(map(len, rows))
    lines = ["  ".join((" " * width, *titles))]
    for name, row in rows.items():
        cells = (_cell(row.get(title)).rjust(len(title)) for title in titles)
        lines.append("  ".join((name.ljust(width), *cells)).rstrip())
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def write(rows: Mapping[str, Row], path: Path) -> None:
    path.write_text(json.dumps(rows, indent=1))


def read(path: Path) -> dict[str, Row]:
    """Scores that `write` wrote. Raises InputError."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(row, dict) for row in rows.values()):
            raise ValueError("a row is no row")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} holds no scores ({error}); a file that --scores wrote is expected, or a "
            "folder of pictures"
        ) from error
    return rows
