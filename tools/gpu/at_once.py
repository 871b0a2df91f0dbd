"""Step 2: whether the picture depends on how many tiles run at once, and which kernel attends."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from helpers import models
from tools.benchmarks.common import psnr
from tools.gpu.chip import GUIDANCE, Chip
from tools.gpu.networks import DTYPES, ENLARGED, Tiles, built, known, photographs, released
from tools.gpu.notes import Notes
from varsr_core import upscale
from varsr_core.family import Checkpoint
from varsr_core.runtime.execution import Execution
from varsr_core.settings import UpscaleSettings
from varsr_core.tiling.consistency import Tiling
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings


def run(chip: Chip, notes: Notes) -> None:
    with torch.inference_mode():
        for name, model in known(chip).items():
            picture = photographs(chip)[0]
            if name == "micro":
                picture = models.picture(*chip.amount.many_tiles)
            for precision in DTYPES:
                work = partial(_beside_one, chip, model, precision, picture)
                notes.attempt(f"{name}, {precision}", work)
        for precision in DTYPES:
            notes.attempt(f"attention, {precision}", partial(_attention, chip, precision))


def _beside_one(
    chip: Chip, model: Checkpoint, precision: str, picture: Tensor
) -> dict[str, object]:
    """How near the picture of several tiles at once comes to that of one after the other."""
    guidance = SampleSettings(guidance=GUIDANCE), RefineSettings(guidance=GUIDANCE)
    restorer = VARSRRestorer(built(model, precision, chip.device), *guidance)
    settings = UpscaleSettings(Tiling("independent"), color_fix="none")

    def restored(count: int) -> Tensor:
        execution = Execution(chip.device, prepare=lambda: count)
        return upscale(picture, ENLARGED, restorer, settings=settings, execution=execution)

    one, *more = chip.amount.batches
    wanted = restored(one)
    told: dict[str, object] = {"again": torch.equal(restored(one), wanted)}
    for count in more:
        found = restored(count)
        told[f"{count} at once"] = {
            "same bits": torch.equal(found, wanted), "PSNR": psnr(found, wanted)
        }  # fmt: skip
    return told


def _attention(chip: Chip, precision: str) -> dict[str, object]:
    """Of a tile of full size, with two blocks."""
    tiles = Tiles(chip, released(chip, precision, depth=2), 1)
    tiles()
    return {"kernels": chip.profile(tiles).attention}
