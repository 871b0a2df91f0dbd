"""What was done already, in a file beside the results, so that a second run does only the rest."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from ..files.fingerprint import Fingerprint
from .disk import as_bytes, identities, portable, regular_stat
from .jobs import Film, Job, Picture
from .outcome import Outcome
from .part_files import NAME

VERSION = 2  # 0.1.0 wrote none, which is 0 to SQLite, and is continued
DAMAGED = ("not a database", "malformed", "unsupported file format")  # what SQLite says of it
COLUMNS = "name, source, settings, stamp, content_hash, bytes, error"
CREATE = """CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, source TEXT NOT NULL, settings TEXT NOT NULL, stamp TEXT NOT NULL,
    content_hash TEXT NOT NULL, bytes INTEGER NOT NULL, error TEXT NOT NULL
)"""
# What the weights were, in each dtype, that runs knew by one fingerprint.
CREATE_WEIGHTS = """CREATE TABLE IF NOT EXISTS weights (
    fingerprint TEXT, layout TEXT, contents TEXT, checked INTEGER,
    PRIMARY KEY (fingerprint, layout)
)"""
NOTED = "SELECT contents, checked FROM weights WHERE fingerprint = ? AND layout = ?"
# Behind a stamp: by which rules a result is. Earlier versions wrote none; once such a result was
# looked into, it is as if by these, or there is a doubt.
RULES, TODAY, DOUBT = " rules ", "1", "0 "
# Names of results that runs wrote or were about to write: killed in between, a run leaves results
# that it could not note. Journals of 0.1.0 know only files that are finished.
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
CREATE_OWN = "CREATE TABLE own (name TEXT PRIMARY KEY)"
FINISHED = "SELECT name FROM files WHERE error = ''"
FILL_OWN = "INSERT INTO own SELECT name FROM files"


class Journal:
    """The journal of one output folder, held by one run at a time.

    Every outcome is on the disk when `record` returns: killed at any moment, a run loses no more
    than what it was just restoring.
    Raises InputError where the folder cannot be written, another run works on it, or what is there
    is no journal that can be continued.

    new:      whether there was none
    unmarked: what is done, maybe by other rules than today's
    doubtful: what is done by other rules than today's, and what is the matter with it
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.unmarked: list[Picture | Film] = []
        self.doubtful: list[tuple[Picture | Film, str]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(self.path):
                regular_stat(self.path)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            self.database = sqlite3.connect(self.path, timeout=0.1, isolation_level=None)
            # Held until the process ends, however it ends.
            self.database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.database.execute("BEGIN EXCLUSIVE")
            self._check_and_fill()
            self.database.execute("COMMIT")
            self.identity = identities(self.path)
        except InputError:
            self.database.close()
            raise
        except sqlite3.Error as error:
            raise self._refusal(error) from None

    def _refusal(self, error: sqlite3.Error) -> InputError:
        folder = self.path.parent
        if _is_damaged(error):
            return self._damaged(str(error))
        if "locked" in str(error):
            return InputError(
                f"another run works on {folder}; wait for it, or choose another folder"
            )
        return self._unusable(error)

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            f"{self.path.parent} cannot be used as the output folder ({error}); make it writable, "
            "or choose another"
        )

    def _check_and_fill(self) -> None:
        (version,) = self.database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise InputError(
                f"{self.path} is a journal of version {version} and this pack knows {VERSION}: "
                "update the pack, or choose another output folder"
            )
        (said,) = self.database.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise self._damaged(said)
        tables = {name for (name,) in self.database.execute(TABLES)}
        if tables and "files" not in tables:
            raise self._foreign()
        self.new = not tables
        self.database.execute(CREATE)
        self.database.execute(CREATE_WEIGHTS)
        if self._columns("files") != COLUMNS:
            raise self._foreign()
        if "own" not in tables:
            self.database.execute(CREATE_OWN)
            self.database.execute(FILL_OWN)
        elif self._columns("own") != "name":
            raise self._foreign()
        self.database.execute(f"PRAGMA user_version = {VERSION}")

    def _columns(self, table: str) -> str:
        rows = self.database.execute(f"PRAGMA table_info({table})")
        return ", ".join(row[1] for row in rows)

    def _foreign(self) -> InputError:
        return InputError(
            f"{self.path} is no journal of this command, but a database of another program; "
            "choose another output folder"
        )

    def _damaged(self, said: str) -> InputError:
        return InputError(
            f"the journal {self.path} is damaged ({said}), so what is done is not known; put a "
            "copy of it back, or choose another output folder. Without it all is restored again, "
            "over the results with --overwrite"
        )

    def error(self, error: sqlite3.Error) -> InputError:
        """What a failure in the middle of a run means."""
        if _is_damaged(error):
            return self._damaged(str(error))
        if self._is_gone:
            return self._gone()
        return InputError(
            f"the journal {self.path} cannot be written ({error}); make room on the disk, and run "
            "the same command again"
        )

    @property
    def _is_gone(self) -> bool:
        return bool(self.identity) and self.identity.isdisjoint(identities(self.path))

    def _gone(self) -> InputError:
        return InputError(
            f"{self.path.parent} was moved or deleted during the run, with its journal; put it "
            "back and run the same command again. Results that lie there now are not in a journal"
        )

    def close(self) -> None:
        self.database.close()

    def weights(self, found: Fingerprint) -> str:
        """The fingerprint; another text where an earlier run knew other weights by that.

        Only if one of the two files carries no hash of its own tensors.
        """
        if not found.contents:
            return found
        row = (str(found), found.layout, found.contents, found.checked)
        try:
            self.database.execute("INSERT OR IGNORE INTO weights VALUES (?, ?, ?, ?)", row)
            contents, checked = self.database.execute(NOTED, row[:2]).fetchone()
        except sqlite3.Error as error:
            raise self.error(error) from None
        both = checked and found.checked
        return found if both or contents == found.contents else found.contents

    def knows(self, settings_hash: str) -> bool:
        """Whether there are results by these settings."""
        query = "SELECT 1 FROM files WHERE settings = ? AND error = '' LIMIT 1"
        return self.database.execute(query, (settings_hash,)).fetchone() is not None

    def is_done(self, job: Picture | Film, settings_hash: str) -> bool:
        """Whether the output is there, from these inputs and settings, and by today's rules.

        Inputs of the same size and time count as unchanged; else their content decides.
        """
        found = self.database.execute(
            f"SELECT {COLUMNS} FROM files WHERE name = ?", (_stored(job.name),)
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
            known, _, rules = noted.partition(RULES)
            same = stamp == known and _read(source) == portable(job.source)
            if not same and job.content_hash() != content_hash:
                return False
        except (InputError, OSError):
            return False
        if not rules:
            self.unmarked.append(job)
        elif rules.startswith(DOUBT):
            self.doubtful.append((job, rules.removeprefix(DOUBT)))
        if not same:
            self._note(job, stamp + noted.removeprefix(known))
        return True

    def mark(self, job: Picture | Film, doubt: str) -> None:
        """Notes what is the matter with a result of an earlier version; nothing, if it is empty."""
        self._note(job, job.stamp() + RULES + (DOUBT + doubt if doubt else TODAY))
        if doubt:
            self.doubtful.append((job, doubt))

    def _note(self, job: Job, stamp: str) -> None:
        self.database.execute(
            "UPDATE files SET stamp = ?, source = ? WHERE name = ?",
            (stamp, _stored(job.source), _stored(job.name)),
        )

    def begin(self, jobs: Iterable[Job]) -> None:
        """Notes results that may be written from now on."""
        names = [(_stored(job.name),) for job in jobs]
        self.database.execute("BEGIN")
        self.database.executemany("INSERT OR IGNORE INTO own VALUES (?)", names)
        self.database.execute("COMMIT")

    def end(self, jobs: Iterable[Job]) -> None:
        """Takes back what `begin` noted of results that are not there after all."""
        missing = [(_stored(job.name),) for job in jobs if not os.path.lexists(job.output)]
        self.database.execute("BEGIN")
        self.database.executemany("DELETE FROM own WHERE name = ?", missing)
        self.database.execute("COMMIT")

    def own(self) -> set[str]:
        """Names of results that are this folder's, finished or not."""
        found = self.database.execute("SELECT name FROM own UNION " + FINISHED)
        return {_name(name) for (name,) in found}

    def record(self, job: Job, settings_hash: str, outcome: Outcome) -> None:
        """Notes what became of a job, in place of what was noted before.

        Raises InputError where the journal is no longer there.
        """
        if self._is_gone:
            raise self._gone()
        self.database.execute(
            f"INSERT OR REPLACE INTO files ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                _stored(job.name),
                _stored(job.source),
                settings_hash,
                outcome.stamp + RULES + TODAY,
                outcome.content_hash,
                outcome.bytes,
                _stored(outcome.error),
            ),
        )


def _is_damaged(error: sqlite3.Error) -> bool:
    return any(words in str(error) for words in DAMAGED)


def _stored(text: str) -> str | bytes:
    """As SQLite can hold it: names that are no UTF-8 are bytes to it."""
    try:
        portable(text).encode()
    except UnicodeEncodeError:
        return as_bytes(text)
    return portable(text)


def _read(stored: str | bytes) -> str:
    return stored if isinstance(stored, str) else stored.decode("utf-8", "surrogateescape")


def _name(stored: str | bytes) -> str:
    """As this process calls the file."""
    return os.fsdecode(stored.encode() if isinstance(stored, str) else stored)
