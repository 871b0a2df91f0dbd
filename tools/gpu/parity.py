"""Step 1: the card beside the CPU of the same machine, stage by stage, and what a precision costs.

In float32, for which the pack turns TF32 off, every choice of a token should be the CPU's, whose
results are made on the spot. In half precision it is told how often tokens are alike behind the
same latents, and how near the picture comes that each precision makes by itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from helpers import models
from tools.benchmarks.agreement import forced, sampled
from tools.benchmarks.common import psnr
from tools.gpu.chip import Chip
from tools.gpu.networks import DTYPES, ENLARGED, built, known, nsarm, photographs
from tools.gpu.notes import Notes
from varsr_core import upscale
from varsr_core.family import Checkpoint
from varsr_core.runtime.execution import Execution
from varsr_core.runtime.precision import without_tf32
from varsr_core.settings import UpscaleSettings
from varsr_core.tiling.consistency import Tiling
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import (
    decode_tokens,
    encode_prefix,
    encode_tokens,
    refine_tokens,
    sample_tokens,
)

NSARM_PICTURE = (32, 48)
AT_ONCE, SEED = 4, 3
CLOSE = 1e-3  # of pictures in [0, 1], in float32: a quarter of a step of 8 bits
FASTER = ("bf16", "fp16", "fp8")
CPU = torch.device("cpu")


def run(chip: Chip, notes: Notes, own: Path | None = None) -> None:
    with torch.inference_mode():
        for name, model in known(chip, own).items():
            micro = name == "micro"
            picture = (
                models.picture(*chip.amount.few_tiles)
                if micro
                else photographs(chip)[0][..., :64, :64]
            )
            for mode in chip.amount.modes if micro else chip.amount.modes[:1]:
                for guidance in chip.amount.guidances:
                    what = f"{name}, {mode}, guidance {guidance:g}"
                    notes.attempt(what, partial(_beside_cpu, chip, model, picture, mode, guidance))
            _precisions(chip, notes, name, model)
        _nsarm(chip, notes)


def _beside_cpu(
    chip: Chip, model: Checkpoint, picture: Tensor, mode: str, guidance: float
) -> dict[str, object]:
    wanted = stages(built(model, "fp32", CPU), picture, mode, guidance)
    found = stages(built(model, "fp32", chip.device), picture, mode, guidance)
    return compared(found, wanted)


def stages(network: VARSR, picture: Tensor, mode: str, guidance: float) -> dict[str, Tensor]:
    """What every stage makes; resumed: tokens of a run that keeps half of its scales."""
    execution = Execution(VARSRRestorer(network).device, prepare=lambda: AT_ONCE)
    sampling, refining = SampleSettings(guidance=guidance), RefineSettings(guidance=guidance)
    prefix = encode_prefix(network, picture, ENLARGED, execution, Tiling(mode))
    tokens = sample_tokens(network, prefix, sampling, SEED, execution)
    half = network.config.schedule.num_scales // 2
    resumed = sample_tokens(
        network, prefix, sampling, SEED, execution, tokens=tokens, first_scale=half
    )
    refined = refine_tokens(network, tokens, refining, SEED, execution)
    known_ids = encode_tokens(network, picture, ENLARGED, execution).token_ids
    mask = torch.zeros(1, 1, *picture.shape[2:])
    mask[..., : picture.shape[2] // 2, :] = 1
    masked = upscale(
        picture,
        ENLARGED,
        VARSRRestorer(network, sampling, refining),
        seed=SEED,
        settings=UpscaleSettings(Tiling(mode)),
        mask=mask,
        execution=execution,
    )
    return {
        "prefix": prefix.tokens,
        "tokens": torch.cat(tokens.token_ids, dim=1),
        "resumed": torch.cat(resumed.token_ids, dim=1),
        "encoded": torch.cat(known_ids, dim=1),
        "latent": tokens.latent,
        "refined": refined.latent,
        "picture": decode_tokens(network, refined, execution),
        "masked": masked,
    }


def compared(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, object]:
    """Shares of whole numbers that are alike, largest differences of others, and a judgement."""
    told: dict[str, object] = {}
    right = True
    for name, ours in found.items():
        theirs = wanted[name]
        if ours.is_floating_point():
            told[name] = difference = (ours - theirs).abs().max().item()
            right &= difference < CLOSE or name not in ("picture", "masked")
        else:
            told[name] = share = (ours == theirs).double().mean().item()
            right &= share == 1
    return {"right": right, **told}


def _precisions(chip: Chip, notes: Notes, name: str, model: Checkpoint) -> None:
    exact = built(model, "fp32", CPU)
    side = exact.config.tile_size
    given = list(_enlarged_tiles(chip, side))
    for guidance in chip.amount.guidances:
        sampling = SampleSettings(guidance=guidance)
        expected = [sampled(exact, lq, sampling) for lq in given]
        for precision in FASTER:
            notes.attempt(
                f"{name}, {precision}, guidance {guidance:g}",
                partial(_agreement, chip, model, precision, given, expected, sampling),
            )


def _enlarged_tiles(chip: Chip, side: int) -> Iterator[Tensor]:
    """(1, 3, side, side) each: two of every photograph, plainly enlarged."""
    for picture in photographs(chip):
        low = side // int(ENLARGED)
        for start in (0, picture.shape[-1] - low):
            crop = picture[..., start : start + low, start : start + low]
            yield torch.nn.functional.interpolate(crop, (side, side), mode="bicubic").clamp(0, 1)


@without_tf32
def _agreement(
    chip: Chip,
    model: Checkpoint,
    precision: str,
    given: Sequence[Tensor],
    expected: Sequence[tuple[list[Tensor], list[Tensor], Tensor]],
    sampling: SampleSettings,
) -> dict[str, object]:
    network = built(model, precision, chip.device)
    alike, heard = [], []
    for lq, (ids, latents, picture) in zip(given, expected, strict=True):
        there, behind = lq.to(chip.device), [latent.to(chip.device) for latent in latents]
        chosen = forced(network, there, behind, sampling)
        alike.append((torch.cat(chosen, 1).cpu() == torch.cat(ids, 1)).double().mean().item())
        heard.append(psnr(sampled(network, there, sampling)[2].cpu(), picture))
    return {
        "tokens alike": statistics.mean(alike),
        "tokens": sum(ids.shape[1] for ids in expected[0][0]) * len(given),
        "PSNR": statistics.median(heard),
        "worst PSNR": min(heard),
    }


def _nsarm(chip: Chip, notes: Notes) -> None:
    picture = models.picture(*NSARM_PICTURE)

    def restored(precision: str, device: torch.device) -> Tensor:
        execution = Execution(device, prepare=lambda: AT_ONCE)
        return upscale(picture, ENLARGED, nsarm(precision, device), seed=SEED, execution=execution)

    wanted = restored("fp32", CPU)

    def beside(precision: str) -> dict[str, object]:
        found = restored(precision, chip.device)
        told: dict[str, object] = {"PSNR": psnr(found, wanted)}
        if precision == "fp32":
            difference = (found - wanted).abs().max().item()
            told = {"right": difference < CLOSE, "picture": difference, **told}
        return told

    for precision in DTYPES:
        notes.attempt(f"NSARM micro, {precision}", partial(beside, precision))
