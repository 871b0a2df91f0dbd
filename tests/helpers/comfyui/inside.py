"""ComfyUI without its server, in a process of its own that runs a script of helpers/inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.comfyui.server import HOST_VERSIONS, ONE_THREAD
from helpers.paths import INSIDE

DYNAMIC = "dynamic VRAM"  # what newer versions do with a card: layers get their weights on loading
KINDS = (*HOST_VERSIONS, f"0.30.0 {DYNAMIC}")


def told_inside(script: str, hosts: Mapping[str, Path], kind: str, pack: Path, base: Path) -> Any:
    """What a script prints, of one of KINDS."""
    version, _, extra = kind.partition(" ")
    environment = {**os.environ, **ONE_THREAD, **({"DYNAMIC_VRAM": "1"} if extra else {})}
    command = [sys.executable, INSIDE / f"{script}.py", hosts[version], pack, base]
    run = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
