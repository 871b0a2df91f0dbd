"""The released model: its files found, fetched where they are missing, converted to one."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..convert import convert_files
from ..errors import CheckpointError
from ..files.atomic import held
from ..files.progress import FileProgress, FileProgressFn, silent
from ..files.soundness import is_there
from .fetching import PARTIAL_FOLDER, PUBLIC, Source, fetch
from .releases import VARSR, Release

logger = logging.getLogger(__name__)

ADDRESS = VARSR.address
LOCK_FILE = ".download.lock"
TELL_S = 0.1  # between two reports


def download(
    folder: Path,
    source: Source = PUBLIC,
    on_progress: FileProgressFn = silent,
    release: Release = VARSR,
) -> list[Path]:
    """Fetches the released files into `folder`; those that are there already are left alone.

    on_progress: told of bytes; may raise, and the next call goes on where this one stopped
    Raises CheckpointError with what to do by hand, when huggingface_hub is missing or fails, and
    while another process does the same.
    """
    with _alone(folder):
        _complete([folder], source, True, 0, _seldom(on_progress), release)
    return [folder / name for name in release.files]


@contextmanager
def released_model(
    folders: Sequence[Path],
    *,
    may_fetch: bool,
    keep_pickles: bool = True,
    source: Source = PUBLIC,
    on_progress: FileProgressFn = silent,
    release: Release = VARSR,
) -> Iterator[Path]:
    """Gives a released model as one converted file, to be loaded; makes it if there is none.

    folders:      where files may lie; what is fetched and written goes to the first
    may_fetch:    whether the released files may be fetched
    keep_pickles: False removes those that were fetched once the block has ended well, which is when
                  the model has loaded. Nobody else's are removed
    on_progress:  told of bytes; may raise, and the next call goes on where this one stopped
    Raises CheckpointError as download() and convert_files() do, and with what to do where files are
    missing that may not be fetched.
    """
    folder, path = folders[0], converted(folders, release)
    if path is not None:
        yield path
        if _set_aside(folder, release):  # by a process that was killed
            with held(folder / LOCK_FILE) as is_held:
                if is_held:
                    _settle(folder, keep_pickles, release)
        return
    _check_allowed(folders, may_fetch, release)
    with _alone(folder):  # another process may have been at it until now
        path = converted(folders, release)
        if path is None:
            path = _make(folders, may_fetch, keep_pickles, source, _seldom(on_progress), release)
        yield path
        _settle(folder, keep_pickles, release)


def _make(
    folders: Sequence[Path],
    may_fetch: bool,
    keep_pickles: bool,
    source: Source,
    on_progress: FileProgressFn,
    release: Release,
) -> Path:
    """Writes the converted file, of files that are there or that it fetches."""
    _check_allowed(folders, may_fetch, release)
    room = release.converted_bytes
    hashes = _complete(folders, source, keep_pickles, room, on_progress, release)
    found, output = _found(folders, release), folders[0] / release.converted_files[0]
    known = {found[name]: sha256 for name, sha256 in hashes.items()}
    files = [found[name] for name in release.files]
    convert_files(files, output, hashes=known, on_progress=on_progress)
    return output


def _complete(
    folders: Sequence[Path],
    source: Source,
    keep: bool,
    room: float,
    on_progress: FileProgressFn,
    release: Release,
) -> dict[str, str]:
    """Fetches what is missing; returns the sha256 of that by name.

    keep: gives what is fetched its final place; else it is set aside
    """
    folder, hashes = folders[0], {}
    if keep:
        _settle(folder, keep, release)
    found = _found(folders, release)
    for path in found.values():
        logger.info("%s is there already", path)
    if missing := [name for name in release.files if name not in found]:
        target = folder if keep else folder / PARTIAL_FOLDER
        hashes = fetch(
            missing, folder, target, source, room=room, on_progress=on_progress, release=release
        )
    if keep:  # else what is set aside waits there
        shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)
    return hashes


def _found(folders: Sequence[Path], release: Release) -> dict[str, Path]:
    """Released files by name: those of a folder that has all, else the first of each name."""
    places = [*folders, folders[0] / PARTIAL_FOLDER]
    names = release.files
    here = [{name: place / name for name in names if is_there(place / name)} for place in places]
    found: dict[str, Path] = {}
    for files in sorted(here, key=len, reverse=True):
        found = files | found
    return found


def converted(folders: Sequence[Path], release: Release = VARSR) -> Path | None:
    """The converted file, of the first folder that has it; one of an earlier version will do."""
    places = (folder / name for name in release.converted_files for folder in folders)
    return next(filter(is_there, places), None)


def _check_allowed(folders: Sequence[Path], may_fetch: bool, release: Release) -> None:
    found = _found(folders, release)
    missing = [name for name in release.files if name not in found]
    if missing and not may_fetch:
        names, size = " and ".join(missing), sum(release.files[name] for name in missing)
        raise CheckpointError(
            f"the released model is not in {folders[0]}; turn on download to fetch {names} "
            f"({size / 1e9:.1f} GB) from {release.address} once and convert it to one file of "
            f"{release.converted_bytes / 1e9:.1f} GB, or put {names} there yourself"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Makes the folder, and keeps other processes from fetching and converting into it."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_held = stack.enter_context(held(folder / LOCK_FILE))
        except OSError as error:
            raise CheckpointError(
                f"the folder {folder} cannot be written ({error.strerror}); give it the "
                "permission, or choose another"
            ) from error
        if not is_held:
            raise CheckpointError(
                f"another download into {folder} is under way; wait for it, or, if there is none, "
                f"remove {folder / LOCK_FILE}"
            )
        yield


def _set_aside(folder: Path, release: Release) -> list[Path]:
    """Whole files that were fetched to be removed again."""
    return [path for name in release.files if is_there(path := folder / PARTIAL_FOLDER / name)]


def _settle(folder: Path, keep: bool, release: Release) -> None:
    """Gives what was set aside its final place, or removes it."""
    for path in _set_aside(folder, release):
        try:
            if keep and not is_there(folder / path.name):
                path.replace(folder / path.name)
            else:
                path.unlink()
                logger.info("%s is removed", path)
        except OSError as error:  # on Windows, while a map of it is open
            logger.warning("%s could not be removed (%s)", path, error.strerror)
    with suppress(OSError):  # while something unfinished is there
        (folder / PARTIAL_FOLDER).rmdir()


def _seldom(on_progress: FileProgressFn) -> FileProgressFn:
    """Calls it a few times a second, and for the first and the last of every stage."""
    told, stage = 0.0, ""

    def call(progress: FileProgress) -> None:
        nonlocal told, stage
        now, ends = time.monotonic(), 0 < progress.total == progress.done
        if now - told >= TELL_S or ends or progress.stage != stage:
            told, stage = now, progress.stage
            on_progress(progress)

    return call
