"""A file that is whole or not there, whatever stops the program that writes it."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WINDOWS = sys.platform == "win32"  # where no process removes a file that another has open

# Of files that are not finished, and of the empty ones beside them that a living process holds.
# Hosts list models by their suffix, hidden or not; these are none of a model.
PART, LOCK = ".varsr-unfinished", ".varsr-lock"
NAMES = re.compile(rf"\.[0-9a-f]{{16}}({re.escape(PART)}|{re.escape(LOCK)})")


@contextmanager
def whole_file(path: Path, part: Path) -> Iterator[Path]:
    """Gives `part` to write to, in the folder of `path`, whose place it takes in the end.

    After an exception, `part` is gone and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """To the disk, so that a power cut does not leave a name without its content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def unfinished_file(folder: Path) -> Iterator[Path]:
    """Gives a path in `folder` that no other process writes to; nothing is left there in the end.

    What a killed process leaves is removed by the next call for the folder, of any process.
    """
    remove_abandoned(folder)
    while True:  # until no other process took the new lock for an old one
        lock = folder / f".{uuid.uuid4().hex[:16]}{LOCK}"
        with held(lock) as is_held:
            if is_held:
                part = lock.with_suffix(PART)
                try:
                    yield part
                finally:
                    with suppress(OSError):  # on Windows, while a map of it is open: the next does
                        part.unlink(missing_ok=True)
                return


def remove_abandoned(folder: Path) -> None:
    """Removes what killed processes left; not what a living one has, nor what it cannot."""
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if NAMES.fullmatch(path.name)]:
            _remove_abandoned(path.with_suffix(LOCK))


@contextmanager
def held(lock: Path) -> Iterator[bool]:
    """Whether this process has a file to itself while the context lasts; gone afterwards.

    The system keeps the lock: it ends with the process, however that ends. Where a file system
    knows no locks, a file that a killed process left stays.
    """
    _remove_abandoned(lock)
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    except FileExistsError:
        yield False
        return
    ours = _is_locked(descriptor, lock)
    try:
        yield ours
    finally:
        # Closed last where it can be: another process may have the name as soon as it is closed.
        if WINDOWS:
            os.close(descriptor)
        if ours:
            with suppress(OSError):
                lock.unlink()
        if not WINDOWS:
            os.close(descriptor)


def _is_locked(descriptor: int, lock: Path) -> bool:
    """Locks a new file; False if another process took it for an old one, and removes it."""
    if WINDOWS:
        return True
    try:
        _lock(descriptor)
    except BlockingIOError:
        return False
    except OSError:  # no locks here: nobody gets one, so nobody removes it
        return True
    return _is_named(descriptor, lock)


def _remove_abandoned(lock: Path) -> None:
    """Removes a lock that no process holds, and the unfinished file beside it."""
    with suppress(OSError):
        if WINDOWS:
            lock.unlink(missing_ok=True)
            lock.with_suffix(PART).unlink(missing_ok=True)
            return
        descriptor = os.open(lock, os.O_RDWR)
        try:
            _lock(descriptor)
            if _is_named(descriptor, lock):
                lock.with_suffix(PART).unlink(missing_ok=True)
                lock.unlink()
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError while another process holds the file."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name, which may be a newer file's."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
