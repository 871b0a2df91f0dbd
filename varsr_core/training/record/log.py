"""The log of a stage: a table that any program reads, and what TensorBoard reads if it is there."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

LOG_FILE = "log.csv"
EVENTS_FOLDER = "events"


class Events:
    """Numbers by step for TensorBoard, in a folder; nothing where it is not installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None
        self._closed = False

    def add(self, values: Mapping[str, float], step: int) -> None:
        """One point of each curve."""
        writer = self._opened(step)
        if writer is None:
            return
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def _opened(self, step: int) -> Any:
        """The writer, made when it is first needed; points of a broken run from `step` on go."""
        if self._writer is None and not self._closed:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self._closed = True
                return None
            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        return self._writer


class StepLog:
    """A row of log.csv for every step, and a point of every curve.

    folder: of the stage
    name:   of the table in it
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self.events = Events(folder / EVENTS_FOLDER)

    def add(self, row: Mapping[str, float]) -> None:
        """row: `step`, and numbers by name."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row.keys())
            if new:
                writer.writeheader()
            writer.writerow(row)
        prefix = "" if self.path.name == LOG_FILE else f"{self.path.stem}/"
        curves = {f"{prefix}{name}": value for name, value in row.items() if name != "step"}
        self.events.add(curves, int(row["step"]))

    def cut(self, step: int) -> None:
        """Drops the rows after `step`: an interrupted run logged them after its checkpoint."""
        if self.path.exists():
            header = self.path.read_text().splitlines(keepends=True)[:1]
            kept = [row for number, row in self._rows().items() if number <= step]
            self.path.write_text("".join([*header, *kept]))

    def steps(self) -> set[int]:
        """Steps that have a row."""
        return set(self._rows()) if self.path.exists() else set()

    def _rows(self) -> dict[int, str]:
        """Rows by their steps, as far as they rise."""
        found: dict[int, str] = {}
        for row in self.path.read_text().splitlines(keepends=True)[1:]:
            number = row.partition(",")[0]
            # A row that was cut off in the middle of its number does not go on from the last one.
            if not number.isdigit() or int(number) <= max(found, default=-1):
                break
            found[int(number)] = row
        return found
