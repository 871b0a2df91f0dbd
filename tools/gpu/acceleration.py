"""Step 3: compiled and recorded arithmetic, each precision: same tokens, how fast, what it holds.

Random weights in full size. The first run compiles, the second records, the third is as fast as it
gets, and the fourth must add no recording.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tools.benchmarks.agreement import forced, sampled
from tools.benchmarks.common import psnr
from tools.gpu.chip import GUIDANCE, Chip
from tools.gpu.networks import Tiles, released
from tools.gpu.notes import Notes
from varsr_core.varsr.acceleration import accelerated
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.sampling import SampleSettings

METHODS = {  # compiled, recorded
    "off": (False, False),
    "compile": (True, False),
    "graphs": (False, True),
    "both": (True, True),
}
PRECISIONS = ("bf16", "fp16", "fp8")
RUNS, MANY_RUNS = 4, 3
PATIENCE = 20.0  # seconds that runs of many tiles may take


def run(chip: Chip, notes: Notes, method: str) -> None:
    with torch.inference_mode():
        for precision in PRECISIONS:
            notes.attempt(f"{method}, {precision}", partial(_measured, chip, method, precision))
            chip.free()


def _measured(chip: Chip, method: str, precision: str) -> dict[str, object]:
    plain = released(chip, precision)
    wanted = Tiles(chip, plain, 1)()
    compiled, recorded = METHODS[method]
    compiler = chip.compiler() if compiled else None
    recorder = chip.recorder() if recorded else None
    fast = accelerated(plain, compiler=compiler, recorder=recorder)
    one, seconds, recordings = Tiles(chip, fast, 1), [], []
    with chip.memory() as memory:
        for _ in range(RUNS):
            seconds.append(chip.seconds(one))
            recordings.append(recorder.recordings if recorder else 0)
        found = one()
    told: dict[str, object] = {
        "first s": seconds[0],
        "third ms": seconds[2] * 1e3,
        "batch": 1,
        "peak GB": memory.peak / 1e9,
        "same bits": torch.equal(found, wanted),
        "PSNR": psnr(found, wanted),
        "tokens alike": _alike(fast, plain, one.pictures.to(chip.device)),
    }
    if recorder:
        told |= {"recordings": recordings, "grows": recordings[3] > recordings[2]}
    told["fell back"] = bool((compiler and compiler.broken) or (recorder and recorder.broken))
    return told | _many(chip, fast, seconds[2])


def _many(chip: Chip, fast: VARSR, seconds_of_one: float) -> dict[str, object]:
    """The same with as many tiles as are run at once at most."""
    many = Tiles(chip, fast, chip.amount.batches[-1])
    if seconds_of_one * many.batch * MANY_RUNS > PATIENCE:
        return {"many": "left out, too slow"}
    with chip.memory() as memory:
        seconds = [chip.seconds(many) for _ in range(MANY_RUNS)]
    return {
        "many": many.batch,
        "many third ms a tile": seconds[2] * 1e3 / many.batch,
        "many peak GB": memory.peak / 1e9,
        "many halved": many.halved,
    }


def _alike(fast: VARSR, plain: VARSR, pictures: Tensor) -> float:
    """Share of tokens that both choose behind the same latents."""
    side = plain.config.tile_size
    lq = torch.nn.functional.interpolate(pictures[:1], (side, side), mode="bicubic").clamp(0, 1)
    sampling = SampleSettings(guidance=GUIDANCE)
    ids, latents, _ = sampled(plain, lq, sampling)
    chosen = forced(fast, lq, latents, sampling)
    return (torch.cat(chosen, 1) == torch.cat(ids, 1)).double().mean().item()
