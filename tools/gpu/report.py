"""What the parts found as Markdown, the way tools/benchmarks/RESULTS.md has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.gpu.acceleration import METHODS, PRECISIONS
from tools.gpu.notes import readable

COLUMNS = (
    *("card; driver, torch, date", "precision", *METHODS),
    *("of the ceiling", "peak of the estimate", "tokens alike"),
)
LONG = ("layers", "stages ms", "on memory")  # for the files alone
TOKENS_OF = ("default", "micro")  # whose tokens stand in the row: the first that was run


def report(files: Sequence[Path], command: str) -> str:
    """Of the files of all parts: heading, the row of each precision, then all that was found."""
    parts = [json.loads(path.read_text()) for path in files]
    chip = _finding(parts, "chip")
    names = ("card", "driver", "torch", "date")
    card, driver, version, date = (chip.get(name, "unknown") for name in names)
    lines = [f"## {date}, {card}, driver {driver}, torch {version}", f"    {command}", ""]
    lines += ["ms a tile with one / with most at once; tokens alike to float32 on the CPU.", ""]
    lines += [_row(COLUMNS), _row("---" for _ in COLUMNS)]
    named = [f"{card}; {driver}, {version}, {date}", *[""] * len(PRECISIONS[1:])]
    lines += [
        _row([first, *_cells(parts, precision)])
        for first, precision in zip(named, PRECISIONS, strict=True)
    ]
    for part in parts:
        lines += ["", f"### {part['part']}: {part['status']}", *_findings(part)]
    return "\n".join([*lines, ""])


def _cells(parts: list[dict], precision: str) -> Iterator[str]:
    yield precision
    for method in METHODS:
        found = _finding(parts, f"{method}, {precision}", f"3 acceleration {method}")
        yield _times(found)
    shares = [
        one["of the ceiling"]
        for one in _findings_of(parts, "4")
        if one["what"].startswith(f"stages, {precision},") and "of the ceiling" in one
    ]
    yield " / ".join(f"{share:.0%}" for share in (shares[:1] + shares[1:][-1:]))
    told = _findings_of(parts, "5")
    peaks = [one["of the estimate"] for one in told if "of the estimate" in one]
    yield " / ".join(f"{peak:.2f}" for peak in peaks) if precision == PRECISIONS[0] else ""
    alike = [_finding(parts, f"{name}, {precision}, guidance 6") for name in TOKENS_OF]
    shares = [one["tokens alike"] for one in alike if "tokens alike" in one]
    yield f"{shares[0]:.1%}" if shares else ""


def _findings_of(parts: list[dict], step: str) -> list[dict[str, Any]]:
    return [one for part in parts if part["part"].startswith(step) for one in part["findings"]]


def _times(found: dict[str, Any]) -> str:
    """With one tile and with most at once, unless memory did not hold them."""
    if found.get("fell back"):
        return "cannot be had"
    names = ["third ms"] + ["many third ms a tile"] * (not found.get("many halved"))
    return " / ".join(f"{found[name]:.1f}" for name in names if name in found)


def _finding(parts: list[dict], what: str, part: str = "") -> dict[str, Any]:
    """By its name, in the part of a name if one is given; empty where there is none."""
    for one in parts:
        if part in ("", one["part"]):
            for found in one["findings"]:
                if found["what"] == what:
                    return found
    return {}


def _findings(part: dict) -> Iterator[str]:
    for found in part["findings"]:
        told = {name: value for name, value in found.items() if name not in ("what", *LONG)}
        values = ", ".join(f"{name} {readable(value)}" for name, value in told.items())
        yield f"- {found['what']}: {values}"


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
