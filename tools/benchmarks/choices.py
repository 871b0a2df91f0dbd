"""What faster choices cost: time and picture against the default, on real pictures, in turn.

    python tools/benchmarks choices FOLDER [--truth FOLDER] [--model FILE] [--dtype bf16]
                                   [--unguided 1 2 3] [--limit 3]

FOLDER has small pictures, --truth the same at four times the size. Every picture is enlarged
with each choice right after the default, and processor time is counted, so that ratios hold on a
busy machine too; on a CPU, that is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tools.benchmarks.common import DTYPES, psnr, read_picture
from varsr_core import load_model, upscale
from varsr_core.varsr.family import NANO_FILE
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import SampleSettings


def restored(restorer: VARSRRestorer, image: Tensor) -> tuple[Tensor, float]:
    """The picture four times larger, and the processor seconds it took."""
    started = time.process_time()
    return upscale(image, 4.0, restorer), time.process_time() - started


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--model", type=Path, default=NANO_FILE)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--unguided", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--limit", type=int, default=3)


def run(arguments: argparse.Namespace) -> None:
    default = load_model(arguments.model, device=None, dtype=arguments.dtype)
    choices = {f"last {n} unguided": SampleSettings(unguided_scales=n) for n in arguments.unguided}
    choices["no guidance"] = SampleSettings(guidance=0.0)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in choices}
    plain = []
    for path in sorted(arguments.folder.glob("*.png"))[: arguments.limit]:
        image = read_picture(path)
        truth = read_picture(arguments.truth / path.name) if arguments.truth else None
        restored(default, image)  # the warm-up
        for name, settings in choices.items():
            expected, base = restored(default, image)
            result, took = restored(replace(default, sampling=settings), image)
            true = psnr(result, truth) if truth is not None else float("nan")
            found[name].append((took / base, psnr(result, expected), true))
        plain.append(psnr(expected, truth) if truth is not None else float("nan"))
    print(
        f"{len(plain)} pictures, {arguments.dtype}, {arguments.model.name}; default: "
        f"{statistics.mean(plain):.2f} dB to the truth"
    )
    for name, numbers in found.items():
        ratio, alike, true = (statistics.mean(column) for column in zip(*numbers, strict=True))
        print(
            f"{name:20} {ratio:.2f} of the time, {alike:.2f} dB to the default's, {true:.2f} dB "
            "to the truth"
        )
