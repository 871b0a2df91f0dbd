"""What K2N adds to a tile of the released VARSR: processor time and weights, on this CPU.

    python tools/benchmarks k2n_cost [--rounds 2] [--threads 1]

Random weights of the released sizes, float32, guidance 9. A tile of 512x512 is restored with and
without it in turn, and its network is timed alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tools import random_k2n
from tools.benchmarks.common import read_picture, release
from tools.host import PHOTOGRAPH
from varsr_core import upscale
from varsr_core.nn.parameters import weight_bytes
from varsr_core.varsr.k2n.coarse import Coarse
from varsr_core.varsr.k2n.kind import read_k2n
from varsr_core.varsr.k2n.weights import build_model as build_k2n
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import SampleSettings
from varsr_core.varsr.weights import build_model, convert


def coarse() -> Coarse:
    with tempfile.TemporaryDirectory() as folder:
        read = read_k2n(random_k2n.write_release(Path(folder), random_k2n.SIZES["released"]))
        return Coarse(build_k2n(read.tensors, fingerprint=read.fingerprint))


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds, of all threads."""
    started = time.process_time()
    work()
    return time.process_time() - started


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)


@torch.inference_mode()
def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode(False):
        model, k2n = build_model(convert(release("released"))), coarse()
    sampling = SampleSettings(guidance=9.0)
    plain = VARSRRestorer(model, sampling)
    both = VARSRRestorer(model, sampling, coarse=k2n)
    picture = read_picture(PHOTOGRAPH)
    small = torch.rand(1, 3, model.config.tile_size // 4, model.config.tile_size // 4)
    k2n.token_ids(model, small)  # the warm-up
    found: dict[str, list[float]] = {"plain": [], "with K2N": [], "its network": []}
    for _ in range(arguments.rounds):
        found["plain"].append(seconds(lambda: upscale(picture, 4.0, plain)))
        found["with K2N"].append(seconds(lambda: upscale(picture, 4.0, both)))
        found["its network"].append(seconds(lambda: k2n.token_ids(model, small)))
    medians = {name: statistics.median(times) for name, times in found.items()}
    print(
        f"weights {weight_bytes(k2n.network) / 1e6:.0f} MB beside {weight_bytes(model) / 1e6:.0f}"
    )
    print(", ".join(f"{name} {median:.2f} s" for name, median in medians.items()))
    print(
        f"with K2N {medians['with K2N'] / medians['plain']:.3f} of the time without; its network "
        f"{100 * medians['its network'] / medians['plain']:.1f} % of a tile's"
    )
