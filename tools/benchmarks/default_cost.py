"""What the built-in model costs in a real ComfyUI on this CPU: time and memory of a 128x128 picture
enlarged to 512x512.

    python3 tools/benchmarks default_cost [--rounds 3]

Beside it the speed of a 2048x2048x2048 float32 product in the same run, to which the time is scaled
as if that were 90 GFLOP/s. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from tools.benchmarks.common import PeakMemory
from tools.host import NEWEST, comfyui, in_environment, node

SIDE = 2048
SCALED_TO = 90.0  # GFLOP/s


def product_speed() -> float:
    """GFLOP/s of the product, the best of five."""
    a = torch.randn(SIDE, SIDE)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best / 1e9


def measure(host: Path, rounds: int) -> None:
    with comfyui(host) as (server, graph):
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


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)


def run(arguments: argparse.Namespace) -> None:
    measure(in_environment().hosts[NEWEST], arguments.rounds)
