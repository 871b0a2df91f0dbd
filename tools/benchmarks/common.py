"""What several measurements share: models, pictures, and memory as Linux counts it."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tools.random_checkpoint import (
    RELEASED,
    SMALL,
    random_weights,
    tokenizer_shapes,
    transformer_shapes,
)
from varsr_core.checkpoint import read_model
from varsr_core.varsr.family import NANO_FILE
from varsr_core.varsr.weights import convert

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = {"released": RELEASED, "small": SMALL}


def release(size: str) -> dict[str, Tensor]:
    """Random weights by their released names."""
    sizes = SIZES[size]
    return random_weights(tokenizer_shapes(sizes) | transformer_shapes(sizes), sizes)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, default=NANO_FILE)
    parser.add_argument("--size", choices=SIZES, help="random weights instead of a model")


def chosen_weights(arguments: argparse.Namespace) -> dict[str, Tensor]:
    """By our names: of --size, else of --model."""
    if arguments.size:
        return convert(release(arguments.size))
    return read_model(arguments.model).tensors


def read_picture(path: Path) -> Tensor:
    """(1, 3, H, W) float32 in [0, 1]."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return pixels.permute(2, 0, 1)[None].float() / 255


def psnr(found: Tensor, expected: Tensor) -> float:
    """Of pictures in [0, 1], dB."""
    return -10 * torch.log10((found - expected).square().mean().clamp(min=1e-12)).item()


def resident(process: str = "self") -> int:
    """Bytes of a process' own memory that are in RAM now; mapped files do not count."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


class PeakMemory:
    """Highest `resident` of a process while the context lasts."""

    def __init__(self, pid: int) -> None:
        self.pid, self.peak = str(pid), 0
        self._over = threading.Event()

    def __enter__(self) -> PeakMemory:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            try:
                self.peak = max(self.peak, resident(self.pid))
            except (OSError, IndexError):  # it has ended, or is about to
                return
