"""Files that are whole or not there, whatever stops the program that writes them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDING = ".varsr-part"  # of files that are being written; a killed run leaves them behind


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives another name to write to; what lies there afterwards takes the place of `path`.

    After an exception, nothing is left and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for every try: after a worker was given up for lost, two may write at once.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{ENDING}")
    try:
        yield part
        _flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """To the disk, so that a power cut does not leave a name without its content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove_parts(folder: Path) -> None:
    """Removes what killed runs left below a folder."""
    for path in folder.rglob(f".*{ENDING}"):
        path.unlink(missing_ok=True)
