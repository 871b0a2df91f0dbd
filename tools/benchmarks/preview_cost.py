"""How much longer a run takes with live previews than without, in a real ComfyUI, in turn.

    python3 tools/benchmarks preview_cost [--rounds 5]

The shipped simple workflow on the small model; each run has a seed of its own, so that nothing is
taken from ComfyUI's cache. Prints the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

from tools.host import NEWEST, comfyui, in_environment, node

if TYPE_CHECKING:
    from helpers.comfyui.server import ComfyServer


def timed(server: ComfyServer, graph: dict, seed: int, preview_method: str) -> tuple[float, int]:
    """Seconds of one run, and how many previews arrived."""
    node(graph, "VARSR_Upscale")["seed"] = seed
    start = time.perf_counter()
    done = server.run(graph, timeout=600, preview_method=preview_method)
    seconds = time.perf_counter() - start
    if not done.succeeded:
        raise SystemExit(f"the run failed: {done.error}")
    return seconds, len(done.previews)


def measure(server: ComfyServer, graph: dict, rounds: int) -> None:
    timed(server, graph, 0, "auto")  # loads the model
    ratios = []
    for number in range(rounds):
        order = ("none", "auto") if number % 2 else ("auto", "none")
        took = {
            method: timed(server, graph, 2 * number + i + 1, method)
            for i, method in enumerate(order)
        }
        (plain, _), (shown, previews) = took["none"], took["auto"]
        ratios.append(shown / plain)
        print(f"{plain:.2f} s without, {shown:.2f} s with {previews} previews: {ratios[-1]:.3f}")
    print(f"median: {statistics.median(ratios):.3f}")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)


def run(arguments: argparse.Namespace) -> None:
    with comfyui(in_environment().hosts[NEWEST]) as (server, graph):
        measure(server, graph, arguments.rounds)
