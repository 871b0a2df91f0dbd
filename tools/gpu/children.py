"""Parts of the check, each in a process of its own: one that crashes or hangs takes no other."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tools.gpu.notes import write_whole
from tools.gpu.parts import Part


def run_all(parts: Sequence[Part], command: Sequence[str], out: Path, minutes: float) -> list[Path]:
    """Runs parts as long as there is time; returns the files they left.

    command: to which the name of a part is added
    """
    ends, files = time.monotonic() + minutes * 60, []
    for part in parts:
        path = part.file(out)
        path.unlink(missing_ok=True)
        files.append(path)
        left = ends - time.monotonic()
        print(f"step {part.name}", flush=True)
        if left < part.seconds:
            status = (
                f"not run: {max(left, 0):.0f} s of {minutes:g} minutes are left, "
                f"and it takes {part.seconds}"
            )
        else:
            environment = {**os.environ, **part.environment}
            given = [*command, "--part", part.name]
            status = run(given, min(part.limit, left), path.with_suffix(".log"), environment)
        _settle(path, part.name, status)
    return files


def run(
    command: Sequence[str], limit: float, log: Path, environment: dict[str, str] | None = None
) -> str:
    """How a process ended that may take so many seconds; its errors and warnings go to `log`."""
    with log.open("wb") as errors:
        # A session of its own, so that what it started ends with it.
        process = subprocess.Popen(command, stderr=errors, env=environment, start_new_session=True)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s, its limit"
        finally:
            _end(process)
    if code == 0:
        return "done"
    told = log.read_text(errors="replace").strip().splitlines()
    return f"ended with {code}" + (f": {told[-1]}" if told else "")


def _end(process: subprocess.Popen) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, 9)
        else:
            process.kill()
    except ProcessLookupError:
        return
    process.wait()


def _settle(path: Path, name: str, status: str) -> None:
    """Says in a part's file how it ended; what it had found by then stays."""
    told = json.loads(path.read_text()) if path.exists() else {"part": name, "findings": []}
    told["status"] = status
    write_whole(path, told)
    if status != "done":
        print(f"  {status}", flush=True)
