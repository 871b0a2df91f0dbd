"""Tables about pictures: CSV, or TSV where the header has tabs."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError

logger = logging.getLogger(__name__)


class Row(NamedTuple):
    """where: table and line, for errors; values: of the columns that were asked for"""

    where: str
    values: list[str]


def read_table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows one at a time; other columns and empty lines are passed over.

    Raises InputError that names the line, what was found there and what was expected.
    """
    header = ",".join(columns)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            rows = csv.reader(file, delimiter="\t" if "\t" in first else ",")
            names = [name.strip().lower() for name in next(csv.reader([first], rows.dialect), [])]
            if missing := [name for name in columns if name not in names]:
                raise InputError(
                    f"{path}, line 1: found {first.strip()!r}, expected the header {header}: "
                    f"it lacks {', '.join(missing)}"
                )
            places = [names.index(name) for name in columns]
            for row in rows:
                where = f"{path}, line {rows.line_num + 1}"
                if not any(row):
                    continue
                if len(row) != len(names):
                    raise InputError(
                        f"{where}: found {len(row)} values, expected {len(names)} as in the header"
                    )
                yield Row(where, [row[place].strip() for place in places])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a table with the header {header}: {error}"
        ) from error


class Places:
    """Finds files of a table below some folders, and counts those that are not there."""

    def __init__(self, table: Path, folders: Sequence[str | Path]) -> None:
        self.table = table
        self.folders = [str(folder) for folder in folders if Path(folder).is_dir()]
        self.rows, self.missing, self.first = 0, 0, ""

    def find(self, name: str) -> Path | None:
        """A path as it is, if absolute, else below the first folder that has it."""
        self.rows += 1
        for folder in self.folders if not os.path.isabs(name) else [""]:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return Path(path)
        self.first = self.first or name
        self.missing += 1
        return None

    def check(self) -> None:
        """Logs how many were missing; raises InputError if that is all."""
        if not self.missing:
            if not self.rows:
                raise InputError(f"{self.table} has a header and no file")
            return
        told = (
            f"{self.missing} of {self.rows} files of {self.table} are missing, the first is "
            f"{self.first}"
        )
        if self.missing == self.rows:
            raise InputError(
                f"{told}; paths are absolute, or below {', '.join(self.folders) or 'a folder'}"
            )
        logger.warning("%s", told)
