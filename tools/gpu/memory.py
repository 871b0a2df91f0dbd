"""Step 5: peak memory against the estimate, and what comes of a card with less than is wanted."""

from __future__ import annotations

from functools import partial

import torch

from tools.benchmarks.common import psnr
from tools.gpu.chip import Chip
from tools.gpu.networks import Tiles, released
from tools.gpu.notes import Notes
from varsr_core.varsr.acceleration import accelerated
from varsr_core.varsr.model import VARSR

RUNS = 4  # the second is recorded, or would be


def run(chip: Chip, notes: Notes) -> None:
    with torch.inference_mode():
        network = released(chip, "bf16")
        for batch in chip.amount.batches:
            notes.attempt(f"peak, {batch} at once", partial(_peak, chip, network, batch))
        for limit in chip.amount.limits:
            what = f"limited to {limit / 1e9:g} GB"
            notes.attempt(what, partial(_limited, chip, network, limit))
        notes.attempt("short within a recording", partial(_short_recording, chip, network))


def _peak(chip: Chip, network: VARSR, batch: int) -> dict[str, object]:
    tiles = Tiles(chip, network, batch)
    with chip.memory() as memory:
        tiles()
    estimate = tiles.restorer.tile_bytes * batch
    return {
        "peak GB": memory.peak / 1e9,
        "estimate GB": estimate / 1e9,
        "of the estimate": memory.peak / estimate,
        "halved": tiles.halved,
    }


def _limited(chip: Chip, network: VARSR, limit: float) -> dict[str, object]:
    """The picture that comes of halving, beside that of as few tiles at once with enough memory."""
    tiles = Tiles(chip, network, chip.amount.batches[-1])
    with chip.memory(limit) as memory:
        try:
            found = tiles()
        except torch.OutOfMemoryError as error:
            return {"says": str(error), "halved": tiles.halved}
    at_once = tiles.batch >> tiles.halved
    wanted = Tiles(chip, network, tiles.batch, at_once)()
    return {
        "at once": at_once,
        "halved": tiles.halved,
        "peak GB": memory.peak / 1e9,
        "same bits": torch.equal(found, wanted),
        "PSNR": psnr(found, wanted),
    }


def _short_recording(chip: Chip, network: VARSR) -> dict[str, object]:
    """Two tiles whose first recording finds no memory: they go on, and are recorded later."""
    recorder = chip.recorder(short=1)
    tiles = Tiles(chip, accelerated(network, recorder=recorder), 2)
    wanted = tiles()
    said, halved = "nothing", 0
    for _ in range(RUNS):
        try:
            tiles()
        except torch.OutOfMemoryError as error:
            said = str(error).partition("\n")[0]
        halved += tiles.halved
    found = tiles()
    return {
        "said": said,
        "halved": halved,
        "recordings": recorder.recordings,
        "gave up": recorder.broken,
        "same bits": torch.equal(found, wanted),
        "PSNR": psnr(found, wanted),
    }
