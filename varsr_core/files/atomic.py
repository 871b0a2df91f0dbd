"""A file that is whole or not there, whatever stops the program that writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
