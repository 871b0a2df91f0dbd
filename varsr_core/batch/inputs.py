"""Which files are restored."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..errors import InputError
from .films.containers import CONTAINERS
from .jobs import Film, Job, Picture
from .naming import Naming, check_template
from .pictures.formats import PICTURE_FORMATS

LIST_SUFFIX = ".txt"
KNOWN = (*PICTURE_FORMATS, *CONTAINERS)


def find_jobs(
    inputs: Sequence[str], naming: Naming, known: set[Path]
) -> tuple[list[Picture | Film], list[tuple[Job, InputError]]]:
    """All jobs in a fixed order, and files that were named but are no pictures or films.

    inputs: files, folders, patterns and lists (.txt, a path a line)
    known:  results of earlier runs, which are no inputs, wherever they lie
    Raises InputError for an input that is not there and for results that would have one name.
    """
    check_template(naming.template)
    jobs: dict[str, Picture | Film] = {}
    refused: list[tuple[Job, InputError]] = []
    sources: set[Path] = set()
    for text in inputs:
        for path, parent in _files(text, naming.folder):
            source = Path(os.path.abspath(path))
            if source in known or source in sources:
                continue
            sources.add(source)
            if path.suffix.lower() not in KNOWN:
                name = str(parent / path.name)
                error = f"{path.suffix or 'no suffix'} is none of {', '.join(KNOWN)}"
                refused.append((Job(name, name, ""), InputError(error)))
                continue
            job = naming.job(source, parent)
            # As a file system that does not tell upper from lower case sees it.
            other = jobs.setdefault(job.name.casefold(), job)
            if other is not job:
                raise InputError(
                    f"{other.source} and {source} would both become {job.name}; tell them apart "
                    "by --name, e.g. '{stem}_{suffix}', or give each folder an output of its own"
                )
    for job in jobs.values():
        if Path(job.output) in sources:
            raise InputError(
                f"{job.source} would be written over {job.output}, an input; choose another output "
                "folder or another --name"
            )
    return list(jobs.values()), refused


def _files(text: str, output: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Files of one input, each with its folder below the output folder."""
    path = Path(text)
    if path.is_dir():
        if path.resolve() == output.resolve():
            raise InputError(f"{path} is input and output folder; choose another output folder")
        yield from _below(path, output)
    elif path.is_file():
        if path.suffix.lower() == LIST_SUFFIX:
            yield from _listed(path)
        else:
            yield path, PurePosixPath()
    elif glob.has_magic(text):
        yield from _matching(text, output)
    else:
        raise InputError(f"there is no file or folder {path}")


def _below(folder: Path, output: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Pictures and films of a folder, without results that lie in it; hidden files are left out."""
    for inner, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and Path(inner, name).resolve() != output.resolve()
        )
        parent = PurePosixPath(*Path(inner).relative_to(folder).parts)
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in KNOWN:
                yield Path(inner, name), parent


def _listed(path: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """A path a line, absolute or as seen from the list; folders are kept below the list's own."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of paths ({error})") from None
    folder = path.absolute().parent
    for line in filter(None, map(str.strip, lines)):
        file = Path(os.path.normpath(folder / line))
        inside = file.is_relative_to(folder)
        parent = file.relative_to(folder).parent if inside else Path()
        yield file, PurePosixPath(*parent.parts)


def _matching(pattern: str, output: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Folders are kept below the one that comes before the first wildcard."""
    names = Path(pattern).parts
    count = next(number for number, name in enumerate(names) if glob.has_magic(name))
    folder = Path(*names[:count])
    found = False
    for name in sorted(glob.iglob(pattern, recursive=True)):
        path = Path(name)
        inside_output = path.resolve().is_relative_to(output.resolve())
        if path.is_file() and path.suffix.lower() in KNOWN and not inside_output:
            found = True
            yield path, PurePosixPath(*path.relative_to(folder).parent.parts)
    if not found:
        raise InputError(f"{pattern} matches no picture and no film")
