"""What a picture of four tiles costs beside one of a single tile, in turn.

    python tools/benchmarks tiles [--model FILE | --size released|small] [--dtype bf16]
                                 [--at-once 1] [--rounds 5] [--modes phased]

Processor time is counted, so that the ratio holds on a busy machine, too; on a CPU, that is.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from tools.benchmarks.common import DTYPES, add_model_options, chosen_weights
from varsr_core import UpscaleSettings, upscale
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.weights import build_model


def add_options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modes", nargs="+", choices=TILING_MODES, default=["phased"])


def run(arguments: argparse.Namespace) -> None:
    model = build_model(chosen_weights(arguments), dtype=DTYPES[arguments.dtype])
    execution = Execution(prepare=lambda: arguments.at_once)
    one = model.config.tile_size // 4
    four = int(one * (2 - Tiling.overlap))  # two tiles a side, overlapping as they do by default
    restorer = VARSRRestorer(model)

    def seconds(side: int, mode: str) -> float:
        image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        settings = UpscaleSettings(Tiling(mode))
        started = time.process_time()
        upscale(image, 4.0, restorer, settings=settings, execution=execution)
        return time.process_time() - started

    for mode in arguments.modes:
        seconds(four, mode)  # the warm-up
        ratios = [seconds(four, mode) / seconds(one, mode) for _ in range(arguments.rounds)]
        print(
            f"{mode}: four tiles cost {statistics.median(ratios):.2f} times one "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
