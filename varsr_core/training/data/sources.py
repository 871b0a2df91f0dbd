"""What `--data` names: folders and files of pictures, and tar files by name or pattern."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError

SHARD_SUFFIX = ".tar"
BRACES = re.compile(r"\{([^{}]*)\}")
NUMBERS = re.compile(r"(\d+)\.\.(\d+)")


class PictureSources(NamedTuple):
    """folders: folders, files or globs of pictures, as given; shards: tar files, each once"""

    folders: list[str | Path]
    shards: list[Path]


def split_sources(sources: Sequence[str | Path]) -> PictureSources:
    """Tells tar files (a.tar, *.tar, {000..127}.tar) from pictures.

    Raises InputError that names a pattern without files, and how many of its files are missing.
    """
    folders: list[str | Path] = []
    shards: dict[Path, None] = {}
    for source in sources:
        if str(source).endswith(SHARD_SUFFIX) and not Path(source).is_dir():
            shards.update(dict.fromkeys(_matching(str(source))))
        else:
            folders.append(source)
    return PictureSources(folders, list(shards))


def _matching(pattern: str) -> list[Path]:
    if Path(pattern).is_file():  # a name with brackets or braces is no pattern
        return [Path(pattern)]
    found: list[Path] = []
    missing: list[str] = []
    for name in expand_braces(pattern):
        matches = sorted(glob.glob(name, recursive=True)) if not Path(name).is_file() else [name]
        found += map(Path, matches)
        missing += [] if matches else [name]
    if missing:
        raise InputError(
            f"{len(missing)} of the tar files of {pattern} are missing, the first is {missing[0]}"
        )
    return found


def expand_braces(pattern: str) -> list[str]:
    """As a shell does: {000..127} with its leading zeros, {a,b}, also several of them."""
    match = BRACES.search(pattern)
    if match is None:
        return [pattern]
    inside = match[1]
    if numbers := NUMBERS.fullmatch(inside):
        first, last = numbers.groups()
        step = 1 if int(first) <= int(last) else -1
        width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
        choices = [f"{n:0{width}d}" for n in range(int(first), int(last) + step, step)]
    else:
        choices = inside.split(",")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [before + choice + rest for choice in choices for rest in expand_braces(after)]
