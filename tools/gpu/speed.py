"""Step 4: where the time of a tile goes, against what the chip can do; full size."""

from __future__ import annotations

from functools import partial

import torch

from tools.benchmarks import bench, ceilings
from tools.gpu.chip import Chip
from tools.gpu.networks import DTYPES, Tiles, released
from tools.gpu.notes import Notes
from varsr_core.varsr.model import VARSR

PRECISIONS = ("bf16", "fp16")


def run(chip: Chip, notes: Notes) -> None:
    with torch.inference_mode():
        for precision in PRECISIONS:
            limits = ceilings.measure(chip.device, DTYPES[precision], chip.amount.ceiling)
            notes.add(f"ceilings, {precision}", limits.plain())
            network = released(chip, precision)
            for batch in chip.amount.batches:
                what = f"stages, {precision}, {batch} at once"
                notes.attempt(what, partial(_stages, chip, network, batch, limits))
            notes.attempt(f"kernels, {precision}", partial(_kernels, chip, network))
            del network
            chip.free()


def _stages(chip: Chip, network: VARSR, batch: int, limits: ceilings.Ceilings) -> dict[str, object]:
    tiles = Tiles(chip, network, batch)
    tiles()
    if tiles.halved:
        return {"error": "memory does not hold as many tiles at once"}
    rounds = max(2, chip.amount.rounds // batch)
    found = bench.measure(network, chip.device, batch, rounds)
    print(bench.table(found, limits))
    flops = sum(stage["flops"] for stage in found["stages"].values())
    return {
        "ms a tile": found["seconds_a_tile"] * 1e3,
        "TFLOP a tile": flops / batch / 1e12,
        "of the ceiling": flops / found["seconds"] / limits.matmul,
        "stages ms": {
            name: round(stage["seconds"] * 1e3, 2) for name, stage in found["stages"].items()
        },
    }


def _kernels(chip: Chip, network: VARSR) -> dict[str, object]:
    """Of one tile, after one that warms up."""
    tiles = Tiles(chip, network, 1)
    tiles()
    profile = chip.profile(tiles)
    return {
        "kernels": profile.kernels,
        "copies": profile.copies,
        "busy": profile.busy / profile.seconds,
        "attention": profile.attention,
    }
