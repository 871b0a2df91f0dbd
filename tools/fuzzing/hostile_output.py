"""Output folders that are no good place for results, or only seem so."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

from tools.fuzzing.hostile_folders import BYTES, Folders
from varsr_core.batch.films.unfinished import SEGMENTS
from varsr_core.batch.part_files import ENDING, NAME

ORDINARY = ("none", "inside", "deep", "dots", "killed")  # where every good file has its result
KINDS = (*("none",) * 5, *ORDINARY, "input", "link to input", "link", "file", "killed", "journal",
         "foreign", "foreign", "inner link")  # fmt: skip


def prepare_output(rng: random.Random, made: Folders) -> tuple[Path, bool]:
    """An output folder, and whether every good file must have its result there."""
    kind = rng.choice(KINDS)
    made.notes.append(f"output: {kind}")
    output = {
        "inside": made.inside / "out",
        "input": made.inside,
        "deep": made.top / "x" / "y" / BYTES / "out",
        "dots": made.inside / ".." / "out",
    }.get(kind, made.top / "out")
    if kind in ("link to input", "link"):
        output.symlink_to(made.inside if kind == "link to input" else made.elsewhere)
    elif kind == "file":
        output.write_text("in the way")
    elif kind == "journal":
        output.mkdir()
        _journal(rng, output / NAME)
    elif kind == "killed":
        _half_done(output, made)
    elif kind == "foreign":
        _foreign(rng, output, made)
    elif kind == "inner link":
        output.mkdir()
        (output / "sub").symlink_to(rng.choice((made.inside / "sub", made.elsewhere, Path("sub"))))
    return output, kind in ORDINARY


def _half_done(output: Path, made: Folders) -> None:
    """What a killed run leaves."""
    for path in (output / f".abc{ENDING}", output / "sub" / f".def{ENDING}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        made.may_go.add(path)
    (output / SEGMENTS / "0.1").mkdir(parents=True)


def _foreign(rng: random.Random, output: Path, made: Folders) -> None:
    """Something in the place of every result."""
    for source in made.good:
        place = output / source.relative_to(made.inside)
        place.parent.mkdir(parents=True, exist_ok=True)
        kind = rng.random()
        if kind < 0.3:
            place.mkdir()
        elif kind < 0.6:
            place.symlink_to(rng.choice((source, Path("nowhere"), Path(place.name))))
        else:
            place.write_bytes(b"foreign")


def _journal(rng: random.Random, path: Path) -> None:
    kind = rng.choice(("text", "newer", "foreign", "half", "folder", "pipe", "empty", "loop"))
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind in ("text", "empty"):
        path.write_bytes(b"no database" * 99 if kind == "text" else b"")
    else:
        database = sqlite3.connect(path)
        database.execute(f"CREATE TABLE {'other' if kind == 'foreign' else 'files'} (a, b)")
        database.execute(f"PRAGMA user_version = {99 if kind == 'newer' else 0}")
        database.commit()
        database.close()
        if kind == "half":
            path.write_bytes(path.read_bytes()[:3000])
