"""What was done already, in a file beside the results, so that a second run does only the rest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from .jobs import Job
from .outcome import Outcome

NAME = ".varsr_batch.sqlite"
COLUMNS = "name, source, settings, stamp, content_hash, bytes, error"
CREATE = """CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, source TEXT NOT NULL, settings TEXT NOT NULL, stamp TEXT NOT NULL,
    content_hash TEXT NOT NULL, bytes INTEGER NOT NULL, error TEXT NOT NULL
)"""


class Journal:
    """The journal of one output folder, held by one run at a time.

    Every outcome is on the disk when `record` returns: killed at any moment, a run loses no more
    than what it was just restoring.
    Raises InputError where the folder cannot be written or another run works on it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.database = sqlite3.connect(folder / NAME, timeout=0.1, isolation_level=None)
            # Held until the process ends, however it ends.
            self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.database.execute("BEGIN EXCLUSIVE")
            self.database.execute(CREATE)
            self.database.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            if "locked" in str(error):
                raise InputError(
                    f"another run works on {folder}; wait for it, or choose another folder"
                ) from None
            raise InputError(
                f"{folder} cannot be used as the output folder ({error}); make it writable, or "
                "choose another"
            ) from None

    def close(self) -> None:
        self.database.close()

    def is_done(self, job: Job, settings_hash: str) -> bool:
        """Whether the output is there, from these inputs and settings.

        Inputs of the same size and time count as unchanged; else their content decides.
        """
        found = self.database.execute(
            f"SELECT {COLUMNS} FROM files WHERE name = ?", (job.name,)
        ).fetchone()
        if found is None:
            return False
        _, source, made_with, noted, content_hash, size, error = found
        if error or made_with != settings_hash:
            return False
        try:
            if Path(job.output).stat().st_size != size:
                return False
            stamp = job.stamp()
            if stamp == noted and source == job.source:
                return True
            if job.content_hash() != content_hash:
                return False
        except OSError:
            return False
        self.database.execute(
            "UPDATE files SET stamp = ?, source = ? WHERE name = ?", (stamp, job.source, job.name)
        )
        return True

    def record(self, job: Job, settings_hash: str, outcome: Outcome) -> None:
        """Notes what became of a job, in place of what was noted before."""
        self.database.execute(
            f"INSERT OR REPLACE INTO files ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                job.name,
                job.source,
                settings_hash,
                outcome.stamp,
                outcome.content_hash,
                outcome.bytes,
                outcome.error,
            ),
        )

    def results(self) -> Iterator[str]:
        """Names of all files that were written."""
        for (name,) in self.database.execute("SELECT name FROM files WHERE error = ''"):
            yield name
