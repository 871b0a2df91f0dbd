"""Models and pictures that the parts of the check run. Nothing but numpy is needed to read them."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers import models
from tools import random_nsarm
from tools.gpu.chip import GUIDANCE, Chip
from tools.random_checkpoint import random_weights, tokenizer_shapes, transformer_shapes
from varsr_core import upscale
from varsr_core.checkpoint import build_restorer, read_model
from varsr_core.family import Checkpoint, Family
from varsr_core.files.fingerprint import Fingerprint
from varsr_core.files.lazy_tensor import StateDict
from varsr_core.nsarm.family import NSARM_FAMILY, NSARMChoices
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.nsarm.sampling import SampleSettings as BitSettings
from varsr_core.nsarm.weights import convert as convert_nsarm
from varsr_core.runtime.execution import Execution
from varsr_core.settings import UpscaleSettings
from varsr_core.tiling.consistency import Tiling
from varsr_core.varsr.acceleration import in_float8
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.weights import convert

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ENLARGED = 4.0
PHOTOGRAPHS = ("kitten", "circuits", "colosseum", "osprey")
PICTURES = Path(__file__).resolve().parents[2] / "tests" / "data"


def known(chip: Chip, own: Path | None = None) -> dict[str, Checkpoint]:
    """Models whose weights are the same everywhere, by their names: the smallest one, the one that
    comes with the pack, and a file of the user's own."""
    found = {"micro": _named(VARSR_FAMILY, models.converted_weights())}
    if chip.amount.default:
        found["default"] = read_model()
    if own is not None:
        found[own.name] = read_model(own, VARSR_FAMILY.name)
    return found


def built(read: Checkpoint, precision: str, device: torch.device) -> VARSR:
    """A network on a device, as users get it. precision: of DTYPES, or fp8"""
    dtype = DTYPES.get(precision, torch.bfloat16)
    network = build_restorer(read, device=str(device), dtype=dtype).model
    return in_float8(network.state_dict(), network) if precision == "fp8" else network


def released(chip: Chip, precision: str, **changes: int) -> VARSR:
    """Random weights in full size, made where they will run. changes: of the sizes"""
    sizes, dtype = replace(chip.amount.released, **changes), DTYPES.get(precision, torch.bfloat16)
    shapes = tokenizer_shapes(sizes) | transformer_shapes(sizes)
    weights = convert(random_weights(shapes, sizes, device=chip.drawn_on, dtype=dtype))
    return built(_named(VARSR_FAMILY, weights), precision, chip.device)


def nsarm(precision: str, device: torch.device) -> NSARMRestorer:
    """The smallest NSARM, with random weights; draws nothing."""
    sizes = random_nsarm.MICRO
    shapes = random_nsarm.transformer_shapes(sizes) | random_nsarm.vae_shapes(sizes)
    weights = random_nsarm.random_weights(shapes) | {"schedule": torch.tensor(sizes.sides)}
    read = _named(NSARM_FAMILY, convert_nsarm(weights))
    likeliest = NSARMChoices(BitSettings(temperature=0))
    return build_restorer(read, device=str(device), dtype=DTYPES[precision], choices=likeliest)  # type: ignore[return-value]


def _named(family: Family, weights: StateDict) -> Checkpoint:
    return Checkpoint(family, weights, Fingerprint("of the check"), {})


class Tiles:
    """Pictures of one tile each, restored when this is called.

    at_once: how many together; all, if 0
    halved:  how often memory did not hold them in the last call
    """

    def __init__(self, chip: Chip, network: VARSR, batch: int, at_once: int = 0) -> None:
        side = network.config.tile_size // int(ENLARGED)
        generator = torch.Generator().manual_seed(0)
        self.pictures = torch.rand(batch, 3, side, side, generator=generator)
        self.chip, self.batch, self.halved = chip, batch, 0
        self.at_once = at_once or batch
        self.restorer = VARSRRestorer(
            network, SampleSettings(guidance=GUIDANCE), RefineSettings(guidance=GUIDANCE)
        )

    def __call__(self) -> Tensor:
        self.halved = 0
        execution = Execution(
            self.chip.device, prepare=lambda: self.at_once, free_memory=self._note_and_free
        )
        settings = UpscaleSettings(Tiling("independent"), color_fix="none")
        return upscale(
            self.pictures, ENLARGED, self.restorer, settings=settings, execution=execution
        )

    def _note_and_free(self) -> None:
        self.halved += 1
        self.chip.free()


def photographs(chip: Chip) -> list[Tensor]:
    """(1, 3, S, S) in [0, 1] each, S at most 128."""
    names = PHOTOGRAPHS[: chip.amount.photographs]
    side = chip.amount.side
    return [read_png(PICTURES / f"{name}.png")[..., :side, :side] for name in names]


def read_png(path: Path) -> Tensor:
    """(1, 3, H, W) in [0, 1], of a file without layers, alpha or palette, 8 bits a channel."""
    data, packed, place = path.read_bytes(), b"", 8
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    while place < len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += length + 12
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 3 * width)
    pixels = np.zeros((height + 1, width + 1, 3), np.int64)  # with a border of zeros
    for y, row in enumerate(rows, start=1):
        for x, told in enumerate(row[1:].reshape(width, 3).astype(np.int64), start=1):
            left, above, corner = pixels[y, x - 1], pixels[y - 1, x], pixels[y - 1, x - 1]
            guess = _guess(int(row[0]), left, above, corner)
            pixels[y, x] = (told + guess) % 256
    return torch.from_numpy(pixels[1:, 1:]).permute(2, 0, 1)[None].float() / 255


def _guess(kind: int, left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """What one of PNG's five filters foretells of a pixel."""
    if kind == 4:  # whichever neighbour is nearest to left + above - corner
        near = [abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)]
        return np.choose(np.argmin(near, axis=0), [left, above, corner])
    return [np.zeros(3, np.int64), left, above, (left + above) // 2][kind]
