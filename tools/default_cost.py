"""What the built-in model costs in a real ComfyUI on this CPU: time and memory of a 128x128 picture
enlarged to 512x512.

    python3 tools/default_cost.py [--rounds 3]

Beside it the speed of a 2048x2048x2048 float32 product in the same run, to which the time is scaled
as if that were 90 GFLOP/s. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests")]

import environment
from demo import HOST, PHOTOGRAPH, comfyui, node
from full_size import PeakMemory

SIDE = 2048
SCALED_TO = 90.0  # GFLOP/s


def product_speed() -> float:
    """GFLOP/s of the product, the best of five."""
    import torch

    a = torch.randn(SIDE, SIDE)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best / 1e9


def measure(host: Path, rounds: int) -> None:
    with comfyui(host, PHOTOGRAPH) as (server, graph):
        idle = server.rss_anon()
        for seed in range(rounds):
            node(graph, "VARSR_Upscale")["seed"] = seed
            with PeakMemory(server.process.pid) as memory:
                started = time.monotonic()
                done = server.run(graph, timeout=600)
                seconds = time.monotonic() - started
            if not done.succeeded:
                raise SystemExit(f"the run failed: {done.error}")
            speed = product_speed()
            print(
                f"round {seed}: {seconds:.1f} s, product {speed:.0f} GFLOP/s, so "
                f"{seconds * speed / SCALED_TO:.1f} s at {SCALED_TO:.0f}; peak "
                f"{(memory.peak - idle) / 1e9:.2f} GB over idle"
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    prepared = environment.prepare()
    if Path(sys.prefix) != environment.VENV:
        return subprocess.run([prepared.python, __file__, *sys.argv[1:]]).returncode
    measure(prepared.hosts[HOST], arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
