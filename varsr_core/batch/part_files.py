"""Results while they are being written: under names by which a killed run's are found."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from pathlib import Path

from ..files.atomic import whole_file

ENDING = ".varsr-part"  # of files that are being written; a killed run leaves them behind


def whole_result(path: Path) -> AbstractContextManager[Path]:
    """See `whole_file`. Every try has a name of its own: a worker that was given up for lost may
    still be writing."""
    return whole_file(path, path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{ENDING}"))


def remove_parts(folder: Path) -> None:
    """Removes what killed runs left below a folder."""
    for path in folder.rglob(f".*{ENDING}"):
        path.unlink(missing_ok=True)
