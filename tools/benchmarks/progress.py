"""How far the bar is from the time: its share beside the share of the time, at all that is told.

    python tools/benchmarks progress [--model FILE | --size middle] [--sides 128 512] [--all]
                                     [--clock processor] [--threads 1] [--dtype bf16]

Without --model and --size the model that comes with the pack. A picture of each side is made from
one a quarter as large; of a model's own tile size it is one tile. `--size middle` is a model of
random weights with the released schedule that takes some ten seconds a tile on a CPU. Beside other
work --clock processor counts the processor's time, which that work does not prolong; with one
thread it is the time of an idle machine. A line for each fiftieth of the time, with --all for all
that is told; then the largest distance, in points of a hundred.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from tools.benchmarks.common import DTYPES, SIZES, read_picture
from tools.random_checkpoint import RELEASED, random_weights, tokenizer_shapes, transformer_shapes
from varsr_core import load_model, upscale
from varsr_core.runtime.execution import Execution
from varsr_core.runtime.progress import Progress
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.weights import build_model, convert

SCALE = 4
PHOTOGRAPH = Path(__file__).resolve().parents[2] / "tests" / "data" / "kitten.png"
MIDDLE = replace(
    RELEASED,
    width=512,
    depth=12,
    heads=8,
    levels=(96, 96, 192, 192, 384),
    prefix=(32, 64, 128, 256, 512),
    refiner_width=512,
    refiner_depth=4,
)
ALL_SIZES = {**SIZES, "middle": MIDDLE}
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.process_time,
}


def restorer_of(arguments: argparse.Namespace) -> VARSRRestorer:
    if not arguments.size:
        return load_model(arguments.model, device="cpu", dtype=arguments.dtype)
    sizes = ALL_SIZES[arguments.size]
    with torch.inference_mode():
        weights = random_weights(tokenizer_shapes(sizes) | transformer_shapes(sizes), sizes)
        dtype = DTYPES.get(arguments.dtype, torch.bfloat16)
        return VARSRRestorer(build_model(convert(weights), dtype=dtype))


def told_by(
    restorer: VARSRRestorer, side: int, clock: Callable[[], float]
) -> tuple[list[tuple[Progress, float]], float]:
    """All that is told of one picture, with the time that has gone by; and all of the time."""
    picture = torch.nn.functional.interpolate(read_picture(PHOTOGRAPH), (side // SCALE,) * 2)
    told: list[tuple[Progress, float]] = []
    execution = Execution(
        on_progress=lambda progress: told.append((progress, clock() - start)),
    )
    start = clock()
    upscale(picture, SCALE, restorer, execution=execution)
    return told, clock() - start


def measure(restorer: VARSRRestorer, side: int, clock: Callable[[], float], every: bool) -> None:
    told_by(restorer, restorer.tile_size, clock)  # what the first run alone needs
    told, seconds = told_by(restorer, side, clock)
    print(f"\n{side}x{side}: {seconds:.2f} s, told of {len(told)} times")
    print(f"{'time':>6} {'bar':>6}  stage")
    shown = -1.0
    for progress, at in told:
        if every or at >= shown + seconds / 50:
            shown = at
            print(f"{at / seconds:6.1%} {progress.done / progress.total:6.1%}  {progress.stage}")
    distances = [abs(at / seconds - progress.done / progress.total) for progress, at in told]
    print(f"largest distance: {100 * max(distances):.1f} points", flush=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path)
    parser.add_argument("--size", choices=ALL_SIZES, help="random weights instead of a model")
    parser.add_argument("--sides", type=int, nargs="+", help="of the results; one tile by itself")
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="auto")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--all", action="store_true")


def run(arguments: argparse.Namespace) -> None:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    restorer = restorer_of(arguments)
    for side in arguments.sides or [restorer.tile_size]:
        measure(restorer, side, CLOCKS[arguments.clock], arguments.all)
