"""Scripts that several processes run together, as torchrun would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from helpers.paths import ROOT

COUNT = 2
LIMIT_S = 600  # for processes that wait for each other


def two_processes(script: str, place: Path, *arguments: str) -> None:
    """Runs a script in two processes, `place` its first argument; fails where it does.

    Without torchrun, which is one process more that imports torch.
    """
    (place / "worker.py").write_text(script)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(COUNT),
    }
    started = [
        subprocess.Popen(
            [sys.executable, str(place / "worker.py"), str(place), *arguments],
            cwd=ROOT,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(COUNT)
    ]
    try:
        told = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    for process, text in zip(started, told, strict=True):
        assert process.returncode == 0, text[-9000:]
