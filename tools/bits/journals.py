"""Whether one commit goes on with what another one left behind, and does nothing of it again.

Left behind are pictures with their journal, and a film of which a part is restored: the run was
killed. What is done again shows in what the command reports: files to do, and tiles.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from command_results import FIXED, make_pictures
from materials import Materials, pixels
from media import read_film, save_film, save_picture
from training_results import trained

FRAMES = 144  # three segments, as films are cut today
OPTIONS = ("--scale", "1", "--overlap", "0", "--guidance", "2", "--color-fix", "wavelet")
FILM = "clip.mkv"
COMMAND = "varsr_core.batch"


@dataclass(frozen=True)
class Run:
    """What a run reported.

    todo, skipped: files, when it began; restored, failed: when it ended
    tiles:         that it restored
    """

    todo: int
    skipped: int
    restored: int
    failed: int
    tiles: int

    @staticmethod
    def of(printed: str) -> Run:
        events = [json.loads(line) for line in printed.splitlines()]
        start, end = (_only(events, kind) for kind in ("start", "end"))
        tiles = sum(event["tiles"] for event in events if event["event"] == "file")
        return Run(start["files"], start["skipped"], end["restored"], end["failed"], tiles)


def _only(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(event for event in events if event["event"] == kind)


class Checks:
    """Prints each as it is made; failed: how many"""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, what: str, wanted: object, found: object) -> None:
        good = wanted == found
        self.failed += not good
        print(f"{what}: {found}" + ("" if good else f"  WRONG, {wanted} expected"), flush=True)


def continued(old: Path, new: Path, environment: Callable[[Path], Mapping[str, str]]) -> int:
    """old, new: files of the commits; environment: to run one of them in. Returns the exit code."""
    check = Checks()
    with tempfile.TemporaryDirectory() as folder:
        before, after = (Materials(root, Path(folder), environment(root)) for root in (old, new))
        _pictures_and_film(before, after, check)
        _nsarm(before, after, check)
    print("nothing was done again" if not check.failed else f"{check.failed} checks failed")
    return 1 if check.failed else 0


def _pictures_and_film(before: Materials, after: Materials, check: Checks) -> None:
    place = before.place("journal")
    model = trained(before, "drawn")
    given = (place / "in", "--json", "--model", model, *FIXED, *OPTIONS)

    def run(by: Materials, output: str, *more: object) -> Run:
        return Run.of(by.run(COMMAND, given[0], place / output, *given[1:], *more))

    make_pictures(place / "in")
    pictures = run(before, "out").restored
    save_film(place / "in" / FILM, FRAMES, 16, 16)
    segments = _killed(before, place / "out", given)
    for copy in ("by_old", "by_new", "other"):
        shutil.copytree(place / "out", place / copy)
    whole, again, found = run(before, "whole"), run(before, "by_old"), run(after, "by_new")
    print(f"OLD left {pictures} pictures, and {segments} segments of a film")
    check("pictures that NEW passes over", pictures, found.skipped)
    check("pictures that NEW restores again", 0, found.todo - 1)
    check("films that NEW ends", (1, 0), (found.restored, found.failed))
    check("tiles of the film that NEW restores beyond those that OLD would", 0,
          found.tiles - again.tiles)  # fmt: skip
    # Else there would have been nothing to keep, and all of the above would say nothing.
    check("some of its tiles were restored before", True, again.tiles < whole.tiles)
    films = [read_film(place / name / FILM) for name in ("by_old", "by_new")]
    same = all(np.array_equal(films[0][key], films[1][key]) for key in films[0])
    check("frames are equal", True, same)
    check("files that NEW does in a second run", 0, run(after, "by_new").todo)
    todo = _first_event(after, place / "other", given, "--seed", "4")["files"]
    check("files that NEW does with another seed", pictures + 1, todo)


def _killed(by: Materials, output: Path, given: tuple[object, ...]) -> int:
    """Runs until a segment is whole, and no longer; returns how many there are."""
    running = by.start(COMMAND, given[0], output, *given[1:])
    try:
        while running.poll() is None:
            if _segments(output):
                break
            time.sleep(0.01)
    finally:
        running.kill()
        said = running.communicate()[1]
    if not _segments(output):
        raise RuntimeError(f"the run left no segments when it was killed: {said[-2000:]}")
    return len(_segments(output))


def _segments(output: Path) -> list[Path]:
    """Files that are named by a number, in a hidden folder."""
    return [path for path in output.glob(".*/*/*") if path.name.isdigit()]


def _first_event(
    by: Materials, output: Path, given: tuple[object, ...], *more: object
) -> dict[str, Any]:
    """What a run says when it begins; then it is killed."""
    running = by.start(COMMAND, given[0], output, *given[1:], *more)
    try:
        line = running.stdout.readline() if running.stdout else ""
    finally:
        running.kill()
        running.communicate()
    return json.loads(line)


def _nsarm(before: Materials, after: Materials, check: Checks) -> None:
    """Its choices are other ones, and part of what a journal knows results by."""
    place = before.place("nsarm_journal")
    save_picture(place / "in" / "a.png", pixels(16, 20))
    given = (place / "in", place / "out", "--json", "--family", "nsarm", *FIXED)
    given += ("--model", before.nsarm_file, "--top-p", "0.9")
    check("pictures that OLD restores with NSARM", 1, Run.of(before.run(COMMAND, *given)).restored)
    check("of these NEW restores again", 0, Run.of(after.run(COMMAND, *given)).todo)
