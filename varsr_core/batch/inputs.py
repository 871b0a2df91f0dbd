"""Which files are restored."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..errors import InputError
from .disk import Entries, absolute
from .films.containers import CONTAINERS
from .jobs import Film, Job, Picture
from .naming import Naming, check_template
from .pictures.formats import PICTURE_FORMATS
from .results import check_results
from .walking import files_below, matching

LIST_SUFFIX = ".txt"
KNOWN = (*PICTURE_FORMATS, *CONTAINERS)
MOST_SUFFIXES = 5  # that a message names

Refused = list[tuple[Job, InputError]]


def find_jobs(
    inputs: Sequence[str],
    naming: Naming,
    known: set[Path],
    others: Counter[str] | None = None,
) -> tuple[list[Picture | Film], Refused]:
    """All jobs in a fixed order, and files that cannot be restored: what was named and is no
    picture or film, and results that could not be written.

    inputs: files, folders, patterns and lists (.txt, a path a line)
    known:  results of earlier runs, which are no inputs, wherever they lie
    others: takes the suffixes of files of other kinds, which are left out
    Raises InputError for an input that is not there, for results that would have one name and for
    those that would be written over an input.
    """
    check_template(naming.template)
    entries = Entries()
    search = _Search(naming.folder, Counter() if others is None else others)
    results = {entries.of(path) for path in known}
    sources: set[Path] = set()
    jobs: list[Picture | Film] = []
    for text in inputs:
        for path, parent in search.files(text):
            source = absolute(path)
            entry = entries.of(source)
            if entry in results or entry in sources:
                continue
            sources.add(entry)
            if path.suffix.lower() in KNOWN:
                jobs.append(naming.job(source, parent))
                continue
            name = str(parent / path.name)
            error = f"{path.suffix or 'no suffix'} is none of {', '.join(KNOWN)}"
            search.refused.append((Job(name, name, ""), InputError(error)))
    jobs, unwritable = check_results(jobs, sources, entries)
    return jobs, search.refused + unwritable


class _Search:
    """refused: files and folders that were come across and cannot be read"""

    def __init__(self, output: Path, others: Counter[str]) -> None:
        self.output, self.others = Path(os.path.realpath(output)), others
        self.refused: Refused = []

    def files(self, text: str) -> Iterator[tuple[Path, PurePosixPath]]:
        """Files of one input, each with its folder below the output folder."""
        path = Path(text)
        if path.is_dir():
            if path.resolve() == self.output:
                raise InputError(f"{path} is input and output folder; choose another output folder")
            yield from self._below(path)
        elif path.suffix.lower() == LIST_SUFFIX and path.is_file():
            yield from _listed(path)
        elif os.path.lexists(path):
            yield path, PurePosixPath()
        elif glob.has_magic(text):
            yield from self._matching(text)
        else:
            raise InputError(f"there is no file or folder {path}")

    def _unread(self, folder: Path, error: OSError) -> None:
        text = f"the folder cannot be read ({error.strerror}); what lies in it was not looked at"
        self.refused.append((Job(str(folder), str(folder), ""), InputError(text)))

    def _below(self, top: Path) -> Iterator[tuple[Path, PurePosixPath]]:
        """Pictures and films of a folder, without results that lie in it."""
        found, others = 0, Counter[str]()
        for folder, files in files_below(top, self._unread, self.output):
            parent = PurePosixPath(*folder.relative_to(top).parts)
            for path in files:
                suffix = path.suffix.lower()
                if suffix in KNOWN:
                    found += 1
                    yield path, parent
                else:
                    others[suffix] += 1
        if others and not found:
            raise InputError(
                f"{top} holds no picture and no film, but {counted(others)}; restored are "
                f"{', '.join(KNOWN)}"
            )
        self.others.update(others)

    def _matching(self, pattern: str) -> Iterator[tuple[Path, PurePosixPath]]:
        """Folders are kept below the one that comes before the first wildcard."""
        folder, paths = matching(pattern, self._unread)
        real, found, others = Path(os.path.realpath(folder)), 0, Counter[str]()
        for path in paths:
            if path.is_dir() or Path(os.path.realpath(path)).is_relative_to(self.output):
                continue
            if path.suffix.lower() not in KNOWN:
                others[path.suffix.lower()] += 1
                continue
            found += 1
            inner = path.parent.relative_to(folder)
            if ".." in inner.parts:  # it may lead to another folder, or out of this one
                above = Path(os.path.realpath(path.parent))
                inner = above.relative_to(real) if above.is_relative_to(real) else Path()
            yield path, PurePosixPath(*inner.parts)
        if not found:
            but = f", but {counted(others)}" if others else " outside the output folder"
            raise InputError(f"{pattern} matches no picture and no film{but}")
        self.others.update(others)


def counted(others: Counter[str]) -> str:
    """How many files of other kinds there are."""
    count = others.total()
    named = [suffix or "no suffix" for suffix, _ in others.most_common(MOST_SUFFIXES)]
    more = ", ..." if len(others) > MOST_SUFFIXES else ""
    return f"{count} {'file' if count == 1 else 'files'} of other kinds ({', '.join(named)}{more})"


def _listed(path: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """A path a line, absolute or as seen from the list; folders are kept below the list's own."""
    try:
        # Names are bytes for the system, and need be no text.
        text = os.fsdecode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        if "\0" in text:
            raise ValueError("it holds zero bytes; save it as UTF-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a list of paths ({error})") from None
    folder = path.absolute().parent
    for line in filter(None, map(str.strip, re.split(r"\r\n|\r|\n", text))):
        file = absolute(folder / line)
        inside = file.is_relative_to(folder)
        parent = file.relative_to(folder).parent if inside else Path()
        yield file, PurePosixPath(*parent.parts)
