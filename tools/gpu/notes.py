"""What a part of the check found: on disk and on the screen as soon as it is known."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Finding = dict[str, Any]
SHOWN = 120  # characters of one value on the screen; the file has all of it


class Notes:
    """path: of a JSON file, written anew with each finding

    {"part": ..., "status": "running" or how it ended, "seconds": ..., "findings": [{"what": ...}]}
    """

    def __init__(self, path: Path, part: str) -> None:
        self.path, self.started = path, time.monotonic()
        self.told: dict[str, Any] = {"part": part, "status": "running", "findings": []}
        self._write()

    def add(self, what: str, found: Mapping[str, Any]) -> None:
        self.told["findings"].append({"what": what, **found})
        values = ", ".join(f"{name} {readable(value)[:SHOWN]}" for name, value in found.items())
        print(f"  {what}: {values}", flush=True)
        self._write()

    def attempt(self, what: str, work: Callable[[], Mapping[str, Any]]) -> None:
        """Adds what some work finds; where it fails, that, and the rest goes on."""
        try:
            found = work()
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
        self.add(what, found)

    def end(self, status: str) -> None:
        self.told["status"] = status
        self._write()

    def _write(self) -> None:
        self.told["seconds"] = round(time.monotonic() - self.started, 1)
        write_whole(self.path, self.told)


def write_whole(path: Path, told: object) -> None:
    """A part that is killed meanwhile leaves the file as it was."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(told, indent=1))
    os.replace(unfinished, path)


def readable(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " ".join(map(readable, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{name} {readable(one)}" for name, one in value.items())
    return str(value)
