"""Where the time of a picture goes, stage by stage, against what the chip can do.

    python tools/benchmarks bench [--size released] [--dtypes bf16 fp32] [--batches 1 4 16]
                                 [--rounds 5] [--reference] [--out RESULT.json]

Builds a model of random weights, so that nothing need be downloaded, and enlarges pictures of one
tile each through the core. --reference also times the same work laid out as in the public code (see
plain_varsr.py): half-precision autocast on a GPU, float32 on a CPU. `--size small` is a quick
look at whether the script runs. Times are medians after a warm-up; a CPU's mean something only
beside others of the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from tools.benchmarks import ceilings
from tools.benchmarks.common import DTYPES, SIZES, release
from tools.benchmarks.plain_varsr import restore
from tools.benchmarks.stage_clock import StageClock
from varsr_core import upscale
from varsr_core.runtime.execution import Execution
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.weights import build_model, convert

GUIDANCE = 6.0


def chip(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads"


def picture_work(model: VARSR, device: torch.device, batch: int) -> Callable[[], Tensor]:
    """Enlarges as many pictures at once, each of one tile."""
    side = model.config.tile_size // 4
    pictures = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    execution = Execution(device=device, prepare=lambda: batch)
    return lambda: upscale(pictures, 4.0, VARSRRestorer(model), execution=execution)


def measure(model: VARSR, device: torch.device, batch: int, rounds: int) -> dict:
    """Times of the whole and of its stages for one batch."""
    work = picture_work(model, device, batch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with StageClock(model, device) as clock:
        clock.count(work)  # the warm-up, too
        whole = []
        for _ in range(rounds):
            started = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            whole.append(time.perf_counter() - started)
            clock.close_run()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {
        "batch": batch,
        "seconds": statistics.median(whole),
        "seconds_a_tile": statistics.median(whole) / batch,
        "peak_bytes": peak,
        "stages": {
            name: {"seconds": stage.median, "calls": stage.calls, "flops": stage.flops}
            for name, stage in clock.stages.items()
        },
    }


def measure_reference(weights: dict[str, Tensor], device: torch.device, rounds: int) -> float:
    """Seconds of one tile the plain way."""
    held = {name: tensor.to(device) for name, tensor in weights.items()}
    tokenizer = build_model(convert(weights)).to(device)
    tile, config = tokenizer.config.tile_size, tokenizer.config
    generator = torch.Generator().manual_seed(0)
    lq = torch.rand(1, 3, tile, tile, generator=generator).to(device) * 2 - 1
    channels = config.tokenizer.latent_channels
    noise = torch.randn(11, config.prefix_tokens, channels, generator=generator).to(device)

    def work() -> None:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            restore(held, tokenizer, lq, noise, GUIDANCE)

    return ceilings.seconds(work, device, rounds)


def table(found: dict, limits: ceilings.Ceilings) -> str:
    """Lines for people: stage, time, share, speed, part of the ceiling."""
    lines = [f"{'stage':20} {'ms':>9} {'share':>6} {'TFLOP':>8} {'TFLOP/s':>8} {'ceiling':>8}"]
    left = found["seconds"]
    for name, stage in found["stages"].items():
        took, flops = stage["seconds"], stage["flops"]
        left -= took
        lines.append(
            f"{name:20} {took * 1e3:9.2f} {took / found['seconds']:6.1%} {flops / 1e12:8.3f} "
            f"{flops / took / 1e12:8.2f} {flops / took / limits.matmul:8.1%}"
        )
    lines.append(f"{'all else':20} {left * 1e3:9.2f} {left / found['seconds']:6.1%}")
    whole = (
        f"{'whole':20} {found['seconds'] * 1e3:9.2f}, {found['seconds_a_tile'] * 1e3:.2f} a tile"
    )
    if found["peak_bytes"]:
        whole += f", peak {found['peak_bytes'] / 1e9:.2f} GB"
    return "\n".join([*lines, whole])


def add_options(parser: argparse.ArgumentParser) -> None:
    cuda = torch.cuda.is_available()
    parser.add_argument("--size", choices=SIZES, default="released")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bf16", "fp32"])
    batches = [1, 4, 16] if cuda else [1]
    parser.add_argument("--batches", nargs="+", type=int, default=batches)
    parser.add_argument("--rounds", type=int, default=10 if cuda else 2)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--out", type=Path)


def run(arguments: argparse.Namespace) -> None:
    device = ceilings.chosen_device()
    result = {"chip": chip(device), "torch": torch.__version__, "date": str(date.today())}
    result |= {"size": arguments.size, "runs": []}
    print(f"{result['chip']}, torch {result['torch']}, {result['date']}, {arguments.size}")
    weights = release(arguments.size)
    with torch.inference_mode():
        if arguments.reference:
            seconds = measure_reference(weights, device, arguments.rounds)
            result["reference_seconds"] = seconds
            print(f"\nreference, one tile: {seconds * 1e3:.1f} ms")
        converted = convert(weights)
        for dtype in arguments.dtypes:
            limits = ceilings.measure(device, DTYPES[dtype])
            print(f"\n{dtype}: {limits}")
            model = build_model(converted, dtype=DTYPES[dtype]).to(device)
            for batch in arguments.batches:
                found = measure(model, device, batch, arguments.rounds)
                print(f"\n{dtype}, {batch} at once\n{table(found, limits)}")
                result["runs"].append({"dtype": dtype, "ceilings": limits.plain(), **found})
            del model
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1))
