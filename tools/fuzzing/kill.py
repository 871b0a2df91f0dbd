"""kill -9 of a command in the middle of its work: the same call again makes the same results."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers import batch_files, film_files
from tools import random_nsarm
from tools.fuzzing.common import Outcome, draw, remove
from tools.fuzzing.model_files import converted, pieces
from varsr_core.batch.part_files import NAME

ROOT = Path(__file__).resolve().parent.parent.parent
WAIT = 0.002  # seconds between two looks at the output folder
LONGEST = 600  # seconds of a run
PICTURES = 12
FILM_FRAMES = 60  # two segments
PIECES = 3

Files = dict[str, str]
"""Hashes by name."""


@dataclass(frozen=True)
class Work:
    """A command that writes into a folder. call: without the folder; output: what follows it"""

    name: str
    call: tuple[str, ...]
    output: tuple[str, ...]

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        arguments = [one.replace("OUTPUT", str(folder)) for one in (*self.call, *self.output)]
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=nowhere, stderr=subprocess.PIPE
        )


@dataclass(frozen=True)
class Undisturbed:
    """A whole run. begins, ends: seconds from its start to the first file and to its end"""

    files: Files
    begins: float
    ends: float


def outcomes(of: str, seed: int, numbers: Sequence[int], folder: Path) -> Iterator[Outcome]:
    """of: "command", "converter" or "both", which get cases in turn."""
    makers = {"command": commands, "converter": converters}
    works = [work for name in makers if of in (name, "both") for work in makers[name](folder)]
    wholes: dict[str, Undisturbed] = {}
    for number in numbers:
        work = works[number % len(works)]
        if work.name not in wholes:
            wholes[work.name] = undisturbed(work, folder / f"whole {work.name}")
        yield killed(work, wholes[work.name], draw("kill", seed, number), number, folder / "killed")


def undisturbed(work: Work, folder: Path) -> Undisturbed:
    remove(folder)
    folder.mkdir(parents=True)
    began = time.monotonic()
    running = work.start(folder)
    _first_file(running, folder)
    begins = time.monotonic() - began
    code, errors = _ended(running)
    if code:
        raise RuntimeError(f"{work.name} ended with {code}: {errors}")
    return Undisturbed(_files(folder), begins, time.monotonic() - began)


def killed(
    work: Work, whole: Undisturbed, rng: random.Random, number: int, folder: Path
) -> Outcome:
    """A run that is killed, up to three times, and then let go on to its end."""
    remove(folder)
    folder.mkdir(parents=True)
    moments = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        running = work.start(folder)
        if rng.random() < 0.9:  # mostly while there is something to lose
            _first_file(running, folder)
            time.sleep(rng.random() * (whole.ends - whole.begins))
        else:
            time.sleep(rng.random() * whole.begins)
        moments.append(f"{len(_files(folder))} files" if running.poll() is None else "its end")
        running.send_signal(signal.SIGKILL)
        _ended(running)
    what = f"{work.name}, killed at {', '.join(moments)}"
    began = time.monotonic()
    code, errors = _ended(work.start(folder))
    seconds, found = time.monotonic() - began, _files(folder)
    fault = ""
    if code:
        fault = f"afterwards it ends with {code}: {errors}"
    elif missing := whole.files.keys() - found.keys():
        fault = f"missing afterwards: {sorted(missing)[:3]}"
    elif more := found.keys() - whole.files.keys():
        fault = f"left over: {sorted(more)[:3]}"
    elif other := [name for name in found if found[name] != whole.files[name]]:
        fault = f"other than without being killed: {other[:3]}"
    return Outcome(number, f"{work.name}: {'fault' if fault else 'equal'}", what, fault, seconds)


def _first_file(running: subprocess.Popen[bytes], folder: Path) -> None:
    while running.poll() is None and not any(folder.iterdir()):
        time.sleep(WAIT)


def _ended(running: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code, and the end of what it said."""
    try:
        _, errors = running.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        running.kill()
        return -1, f"no end after {LONGEST} s"
    return running.returncode, errors.decode(errors="replace")[-300:]


def _files(folder: Path) -> Files:
    """Folders and hidden files too; of the journal, that it is there."""
    found: Files = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        try:
            data = b"" if path.is_dir() or path.name.startswith(NAME) else path.read_bytes()
        except FileNotFoundError:  # it is at work
            continue
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def commands(folder: Path, count: int = PICTURES, frames: int = FILM_FRAMES) -> list[Work]:
    """Of pictures, and of a film."""
    model = folder / "model.safetensors"
    model.write_bytes(converted("varsr"))
    pictures, films = folder / "pictures", folder / "films"
    for number in range(count):
        batch_files.save(
            pictures / ("sub" if number % 2 else "") / f"{number}.png",
            batch_files.pixels(40, 30, seed=number),
        )
    films.mkdir()
    film_files.make_film(films / "a.mp4", frames)
    options = ("--model", str(model), *batch_files.QUICK, "--device", "cpu", "--json")
    return [
        Work(name, ("-m", "varsr_core.batch", str(inputs), "OUTPUT"), options)
        for name, inputs in (("pictures", pictures), ("film", films))
    ]


def converters(folder: Path, sizes: random_nsarm.Sizes = random_nsarm.QUARTER) -> list[Work]:
    """Of two pickles, and of one that comes in pieces."""
    release = random_nsarm.write_release(folder / "release", sizes)
    cut = folder / "cut"
    cut.mkdir()
    shutil.copy(release[1], cut)
    for number, data in enumerate(pieces(release[0].read_bytes(), PIECES)):
        (cut / f"NSARM_part_a{'abc'[number]}").write_bytes(data)
    return [
        Work(
            name, ("-m", "varsr_core.convert", *map(str, files)), ("-o", "OUTPUT/made.safetensors")
        )
        for name, files in (("pickles", release), ("pieces", sorted(cut.iterdir())))
    ]
