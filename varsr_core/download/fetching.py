"""Released files that are missing: fetched, checked, and given their names once they are whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import CheckpointError
from ..files.atomic import flush
from ..files.hashing import byte_bar
from ..files.progress import FileProgress, FileProgressFn
from ..files.tensors import check_space
from .releases import Release
from .remote import FetchError, RemoteFile, Repository

logger = logging.getLogger(__name__)

# Unfinished files wait here, so that none has its final name early; and whole ones that are to be
# removed again once they are converted.
PARTIAL_FOLDER = ".download"


@dataclass(frozen=True)
class Source:
    """Where the release comes from.

    revision: branch, tag or commit of the repository; None for its main branch
    endpoint: another server with the same interface, e.g. a mirror
    """

    revision: str | None = None
    endpoint: str | None = None


PUBLIC = Source()


def fetch(
    names: Sequence[str],
    folder: Path,
    target: Path,
    source: Source,
    *,
    room: float,
    on_progress: FileProgressFn,
    release: Release,
) -> dict[str, str]:
    """Fetches files into `target`, each under its name as soon as it is whole and checked.

    folder: in whose PARTIAL_FOLDER they wait until then
    room:   bytes that are needed beside theirs
    Returns their sha256 by name. Raises CheckpointError with what to do by hand.
    """
    try:
        repository = Repository(release.repository, source.revision, source.endpoint)
        asking = FileProgress(f"asking {repository.address}")
        files = [repository.look_up(name, lambda: on_progress(asking)) for name in names]
        parts = [_part(folder, file) for file in files]
        there = sum(part.stat().st_size for part in parts if part.is_file())
        total = sum(file.size for file in files)
        check_space(folder / names[-1], total - there + room, f"the released model in {folder}")
        hashes, before = {}, 0
        for file, part in zip(files, parts, strict=True):
            whole = FileProgress(f"fetching {file.name}", before, total)
            hashes[file.name] = _fetch_one(repository, file, part, whole, on_progress)
            part.replace(target / file.name)
            before += file.size
    except FetchError as error:
        address = f"{source.endpoint or 'https://huggingface.co'}/{release.repository}"
        raise CheckpointError(
            f"{error}, or fetch {' and '.join(release.files)} from {address} by hand and put them "
            f"into {folder}"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or folder} could not be written ({error.strerror or error})"
        ) from error
    return hashes


def _part(folder: Path, file: RemoteFile) -> Path:
    """Where an unfinished file waits; what is there of another version of it is removed."""
    partial = folder / PARTIAL_FOLDER
    partial.mkdir(exist_ok=True)
    part = partial / f"{file.name}.{file.sha256[:16]}.part"
    for other in partial.glob(f"{file.name}.*"):
        if other != part or not file.sha256:
            other.unlink()
    return part


def _fetch_one(
    repository: Repository,
    file: RemoteFile,
    part: Path,
    begun: FileProgress,
    on_progress: FileProgressFn,
) -> str:
    """Fetches and checks a file; returns its sha256. begun: of all files, when it begins"""
    with byte_bar(begun.stage, file.size) as bar:

        def on_bytes(there: int) -> None:
            bar.update(there - bar.n)
            on_progress(replace(begun, done=begun.done + there))

        found = repository.fetch(file, part, on_bytes)
    if not file.sha256:
        logger.warning("the server tells no sha256 of %s; it is not verified", file.name)
    elif found != file.sha256:
        part.unlink()
        raise CheckpointError(
            f"{file.name} was damaged on the way (its sha256 is {found}, {file.sha256} was "
            "expected) and is removed; try again"
        )
    flush(part)
    return found
