"""What the chip can do at most, measured in the same run as what is compared with it.

python tools/benchmarks ceilings [--dtypes bf16 fp32]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from tools.benchmarks.common import DTYPES

ROUNDS = 5


@dataclass(frozen=True)
class CeilingSizes:
    """Of what is measured: a square product's side, attention's rows and tokens, bytes copied."""

    side: int
    rows: int
    length: int
    copied: int


ON_GPU, ON_CPU = CeilingSizes(8192, 8, 4096, 2**30), CeilingSizes(2048, 1, 2048, 2**27)


@dataclass(frozen=True)
class Ceilings:
    """matmul, attention: floating point operations a second; copy: bytes read and written."""

    matmul: float
    attention: float
    copy: float

    def __str__(self) -> str:
        return (
            f"products {self.matmul / 1e12:.2f} TFLOP/s, attention "
            f"{self.attention / 1e12:.2f} TFLOP/s, copies {self.copy / 1e9:.0f} GB/s"
        )

    def plain(self) -> dict[str, float]:
        return asdict(self)


def chosen_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def measure(
    device: torch.device, dtype: torch.dtype, sizes: CeilingSizes | None = None
) -> Ceilings:
    """A square product, attention of the model's kind, and a copy, each as large as is fair."""
    sizes = sizes or (ON_GPU if device.type == "cuda" else ON_CPU)
    side, rows, length, copied = sizes.side, sizes.rows, sizes.length, sizes.copied
    a = torch.randn(side, side, device=device, dtype=dtype)
    heads = torch.randn(3, rows, 24, length, 64, device=device, dtype=dtype)
    block = torch.empty(copied, device=device, dtype=torch.uint8)
    target = torch.empty_like(block)
    return Ceilings(
        matmul=2 * side**3 / seconds(lambda: a @ a, device),
        attention=4
        * rows
        * 24
        * length**2
        * 64
        / seconds(lambda: F.scaled_dot_product_attention(*heads, scale=0.1), device),
        copy=2 * copied / seconds(lambda: target.copy_(block), device),
    )


def seconds(work: Callable[[], object], device: torch.device, rounds: int = ROUNDS) -> float:
    """Median time of some work, after a warm-up."""
    found = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:
            found.append(time.perf_counter() - started)
    return statistics.median(found)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bf16", "fp32"])


def run(arguments: argparse.Namespace) -> None:
    for dtype in arguments.dtypes:
        print(f"{dtype}: {measure(chosen_device(), DTYPES[dtype])}")
