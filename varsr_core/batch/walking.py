"""Folders and patterns, followed on the disk: every folder once, whatever links lead to it."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .disk import Entries

Unread = Callable[[Path, OSError], None]
"""Told of a folder that cannot be read."""


def files_below(
    top: Path, unread: Unread, left_out: Path | None = None
) -> Iterator[tuple[Path, list[Path]]]:
    """`top` and the folders below it, each with its files, in order; hidden ones are left out.

    Linked folders come last, so that what lies below `top` itself keeps its names; one that leads
    back to a folder it lies in, or to `left_out`, is not followed.
    """
    seen: set[str] = set()
    starts = deque([top])
    while starts:
        waiting = [starts.popleft()]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder)
            if real in seen:
                continue
            seen.add(real)
            try:
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                unread(folder, error)
                continue
            files, folders = [], []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = folder / entry.name
                if not _is_folder(entry):
                    files.append(path)
                elif not entry.is_symlink():
                    folders += [] if _is(path, left_out) else [path]
                elif not _leads_back(path, real, left_out):
                    starts.append(path)
            yield folder, files
            waiting += reversed(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is(path: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(path) == str(other)


def _leads_back(link: Path, folder: str, left_out: Path | None) -> bool:
    target = Path(os.path.realpath(link))
    inside = left_out is not None and target.is_relative_to(left_out)
    return inside or Path(folder).is_relative_to(target)


def matching(pattern: str, unread: Unread) -> tuple[Path, list[Path]]:
    """The folder before the first wildcard, and what matches, in order and each once."""
    names = Path(pattern).parts
    count = next(number for number, name in enumerate(names) if glob.has_magic(name))
    folder = Path(*names[:count])
    rest = [
        name
        for number, name in enumerate(names[count:], count)
        if name != "**" or names[number - 1] != "**" or number == count
    ]
    entries, found = Entries(), {}
    for path in _expanded(folder, rest, unread, set()):
        found.setdefault(entries.of(path), path)
    return folder, sorted(found.values(), key=str)


def _expanded(
    path: Path, names: Sequence[str], unread: Unread, seen: set[tuple[str, int]]
) -> Iterator[Path]:
    """seen: folders with how many names were left"""
    if not names:
        yield path
        return
    place = (os.path.realpath(path), len(names))
    if place in seen:
        return
    seen.add(place)
    name, rest = names[0], names[1:]
    if name == "**":
        for folder, files in files_below(path, unread):
            yield from _expanded(folder, rest, unread, seen) if rest else files
    elif glob.has_magic(name):
        for found in sorted(glob.glob(name, root_dir=path)):
            yield from _expanded(path / found, rest, unread, seen)
    elif os.path.lexists(path / name):
        yield from _expanded(path / name, rest, unread, seen)
