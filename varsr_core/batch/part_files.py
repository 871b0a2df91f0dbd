"""Names of results that are being written, and how they are told when a run was killed."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from pathlib import Path

from ..files.atomic import whole_file

ENDING = ".varsr-part"  # of files that are being written; a killed run leaves them behind


def whole_result(path: Path) -> AbstractContextManager[Path]:
    """See `whole_file`; gives a name of its own for every try: after a worker was given up for
    lost, two may write at once."""
    return whole_file(path, path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{ENDING}"))


def remove_parts(folder: Path) -> None:
    """Removes what killed runs left below a folder."""
    for path in folder.rglob(f".*{ENDING}"):
        path.unlink(missing_ok=True)
