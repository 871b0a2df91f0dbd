"""Hostile folders for the command: every good file is restored, and nothing is harmed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import torch
from PIL import Image

from tools.fuzzing.common import Outcome, draw, said, watched
from tools.fuzzing.hostile_folders import Folders, make_folders
from tools.fuzzing.hostile_output import prepare_output
from tools.fuzzing.model_files import converted
from varsr_core.batch.__main__ import NOT_DONE, SOME_FAILED, main
from varsr_core.batch.films.containers import CONTAINERS
from varsr_core.batch.part_files import ENDING, NAME

CPU_SECONDS = 120
CODES = (0, SOME_FAILED, NOT_DONE)
QUICK = ("--refine-steps", "2", "--threads", "1", "--dtype", "fp32", "--device", "cpu", "--json")

Command = Callable[[Sequence[str]], int]
Entry = tuple[object, ...]
"""What a place on the disk is: its mode, and what is in it."""


def trial(seed: int, number: int, folder: Path, command: Command = main) -> Outcome:
    torch.set_num_threads(1)
    rng = draw("batch", seed, number)
    made = make_folders(rng, folder / "world")
    (folder / "model.safetensors").write_bytes(converted("varsr"))
    output, strict = prepare_output(rng, made)
    inputs, whole = _inputs(rng, made)
    options, harmless = _options(rng, made)
    arguments = [*inputs, str(output), "--model", str(folder / "model.safetensors")]
    arguments += [*QUICK, *options]
    what = f"{', '.join(made.notes)}; {' '.join(options)}".replace(str(folder), "")
    before = _snapshot(folder)
    try:
        with watched(CPU_SECONDS) as spent:
            code, told, errors = _run(command, arguments, folder)
            after = _snapshot(folder)
            again, told_again, errors_again = _run(command, arguments, folder)
    except BaseException as error:
        return Outcome(number, type(error).__name__, what, said(error))
    real = Path(os.path.realpath(output))
    faults = [
        "" if code in CODES else f"exit code {code}",
        "a traceback" if "Traceback" in errors + errors_again else "",
        _harm(before, after, real, made.may_go, overwrite="--overwrite" in options),
        _left(before, after, made.may_go),
        _unrestored(made.good if whole else [], told, code, real, strict and harmless),
        _bad_results(told),
        "" if again == code else f"exit code {code}, in the second run {again}",
        _done_again(told_again),
        "" if _results(after) == _results(_snapshot(folder)) else "the second run changed files",
    ]
    return Outcome(number, f"exit {code}", what, next(filter(None, faults), ""), spent.seconds)


def _inputs(rng: random.Random, made: Folders) -> tuple[list[str], bool]:
    """As the user types them, and whether they name all good files."""
    inside = made.inside
    kind = rng.choice(("folder", "folder", "folder", "all", "**", "list", "named", "twice", "dots",
                       "some", "missing"))  # fmt: skip
    made.notes.append(f"input: {kind}")
    if kind == "list":
        lines = [os.fsencode(path.relative_to(inside)) for path in made.good]
        odd = [b"", b"../elsewhere/c.png", b"gone.png", b"\xff.png"]
        path = made.top / "in" / "list.txt"
        path.write_bytes(b"\n".join([*lines, *rng.sample(odd, 2)]))
        plain = all("\n" not in path.name and path.name.strip() == path.name for path in made.good)
        return [str(path)], plain and all("\n" not in str(path) for path in made.good)
    if kind == "named":
        return [str(path) for path in made.good] or [str(inside)], True
    patterns = {
        "folder": [""], "all": ["**/*.*"], "**": ["**"], "twice": ["", "*", "**/*.*"],
        "dots": ["*/../*", "**/../**/*.png"], "some": ["*.[pj]*"], "missing": ["", "gone.png"],
    }[kind]  # fmt: skip
    return [os.path.join(inside, one) for one in patterns], kind in ("folder", "all", "**", "twice")


def _options(rng: random.Random, made: Folders) -> tuple[list[str], bool]:
    """And whether no good file may fail for them."""
    found, harmless = ["--scale", rng.choice(("1", "1", "2", "0.5"))], True
    if rng.random() < 0.25:
        name = rng.choice(("{stem}_x{scale}", "{stem}_{suffix}", "{stem}_{seed}", "{stem", ".."))
        found += ["--name", name]
        harmless = False
    if rng.random() < 0.2:
        form = rng.choice(("png", "jpeg", "webp", "tiff"))
        found += ["--format", form]
        harmless = harmless and form != "jpeg"  # which holds no alpha
    if rng.random() < 0.2:
        found += ["--together", "3"]
    if rng.random() < 0.2:
        found += ["--overwrite"]
    if rng.random() < 0.25:
        masks = made.top / "masks"
        kind = rng.choice(("one", "folder", "pipe", "text", "gone"))
        path = masks / "m.png"
        if kind != "gone":
            masks.mkdir()
        if kind in ("one", "folder"):
            Image.new("L", (8, 8), rng.choice((0, 255, 99))).save(path)
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "text":
            path.write_text("no mask")
        found += ["--mask", str(masks if kind == "folder" else path)]
        harmless = harmless and kind == "one"
    return found, harmless


def _run(command: Command, arguments: list[str], folder: Path) -> tuple[int, list[dict], str]:
    """Exit code, events of files, and what was written to stderr."""
    files = folder / "stdout", folder / "stderr"
    with _redirected(*files):
        try:
            code = command(arguments)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 99
    output, errors = (path.read_text(errors="replace") for path in files)
    for path in files:
        path.unlink()
    events = [json.loads(line) for line in output.splitlines()]
    return code, [event for event in events if event["event"] == "file"], errors


@contextmanager
def _redirected(*files: Path) -> Iterator[None]:
    """Both streams of this process into files; that of errors stays open for who logs to it."""
    kept, before = [os.dup(number) for number in (1, 2)], sys.stdout
    try:
        for number, path in enumerate(files, 1):
            with path.open("w") as file:
                os.dup2(file.fileno(), number)
        with open(1, "w", closefd=False) as sys.stdout:
            yield
    finally:
        sys.stdout = before
        for number, stream in enumerate(kept, 1):
            os.dup2(stream, number)
            os.close(stream)


def _snapshot(top: Path) -> dict[Path, Entry]:
    found: dict[Path, Entry] = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            held: object = None
            if stat.S_ISLNK(status.st_mode):
                held = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                held = status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()
            found[path] = (status.st_mode, held)
    return found


def _is_journal(path: Path) -> bool:
    return path.name.startswith(NAME)


def _results(found: dict[Path, Entry]) -> dict[Path, Entry]:
    return {path: entry for path, entry in found.items() if not _is_journal(path)}


def _harm(
    before: dict[Path, Entry], after: dict[Path, Entry], output: Path, may_go: set[Path],
    *, overwrite: bool,
) -> str:  # fmt: skip
    for path, entry in before.items():
        empty_journal = _is_journal(path) and path.is_file() and path.parent == output
        replaced = overwrite and path.is_relative_to(output) and not stat.S_ISDIR(entry[0])
        if after.get(path) != entry and path not in may_go and not empty_journal and not replaced:
            if path.is_relative_to(output / ".varsr_batch.segments"):
                continue
            return f"{str(path)!r} was changed or removed"
    linked = Path(os.path.realpath(output / "sub"))  # where the user has it
    new = [path for path in after if path not in before]
    new = [path for path in new if not path.is_relative_to(output) | path.is_relative_to(linked)]
    outside = [path for path in new if not output.is_relative_to(path)]  # folders above it are made
    return f"written outside of the output folder: {outside[:3]}" if outside else ""


def _left(before: dict[Path, Entry], after: dict[Path, Entry], may_go: set[Path]) -> str:
    """Parts of this run, or of a killed one."""
    parts = [path for path in after if path.name.endswith(ENDING)]
    left = [path for path in parts if path not in before or path in may_go]
    return f"left over: {left[:3]}" if left else ""


def _unrestored(good: list[Path], told: list[dict], code: int, output: Path, strict: bool) -> str:
    """Good files that the run says nothing of, or, where none may fail, that failed."""
    if code == NOT_DONE:
        return f"files were restored, then exit code {NOT_DONE}" if told else ""
    errors = {event["source"]: event["error"] for event in told}
    for path in good:
        if path.is_relative_to(output):
            continue
        if str(path) not in errors:
            return f"{str(path)!r} was neither restored nor told of"
        if strict and errors[str(path)]:
            return f"{str(path)!r} failed: {errors[str(path)]}"
    return ""


def _bad_results(told: list[dict]) -> str:
    for event in told:
        path = event["output"]
        if event["error"]:
            continue
        try:
            if Path(path).suffix in CONTAINERS:
                with open(os.fsencode(path), "rb") as file, av.open(file) as film:
                    assert next(film.decode(video=0))
            else:
                with Image.open(os.fsencode(path)) as image:
                    image.load()
        except Exception as error:
            return f"the result {path!r} cannot be read: {said(error)}"
    return ""


def _done_again(told: list[dict]) -> str:
    again = [event["source"] for event in told if not event["error"]]
    return f"the second run did {again[0]!r} again" if again else ""
