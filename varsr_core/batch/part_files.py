"""Results while they are being written: under names by which a killed run's are found."""

from __future__ import annotations

import os
import uuid
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from ..files.atomic import whole_file

NAME = ".varsr_batch.sqlite"  # of a result folder
ENDING = ".varsr-part"  # of files that are being written; a killed run leaves them behind


def whole_result(path: Path) -> AbstractContextManager[Path]:
    """See `whole_file`. Every try has a name of its own: a worker that was given up for lost may
    still be writing. It is short: that of the result may be as long as a name can be."""
    return whole_file(path, path.with_name(f".{uuid.uuid4().hex[:16]}{ENDING}"))


def remove_parts(folder: Path) -> None:
    """Removes what killed runs left below a folder; not in result folders that lie in it, on which
    other runs may work."""
    for inner, folders, files in os.walk(folder):
        if Path(inner) != folder and NAME in files:
            folders.clear()
            continue
        for name in files:
            if name.startswith(".") and name.endswith(ENDING):
                with suppress(OSError):
                    Path(inner, name).unlink()
