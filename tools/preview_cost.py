"""How much longer a run takes with live previews than without, in a real ComfyUI, in turn.

    python3 tools/preview_cost.py [--rounds 5]

The shipped simple workflow on the small model; each run has a seed of its own, so that nothing is
taken from ComfyUI's cache. Prints the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests")]

import environment
from demo import HOST, PHOTOGRAPH, comfyui, node

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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    prepared = environment.prepare()
    if Path(sys.prefix) != environment.VENV:  # what it runs on lives in the environment
        return subprocess.run([prepared.python, __file__, *sys.argv[1:]]).returncode
    with comfyui(prepared.hosts[HOST], PHOTOGRAPH) as (server, graph):
        measure(server, graph, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
