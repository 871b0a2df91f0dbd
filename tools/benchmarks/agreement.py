"""How often a faster precision chooses the same tokens: teacher-forced, scale by scale.

    python tools/benchmarks agreement [--model FILE | --size released|small] [--tiles FOLDER]
                                     [--limit 2] [--guidance 6] [--only bf16 fp16 fp8]
                                     [--stored fp32 bf16 fp16]

Every model sees the latents that the float32 model sampled, so that one other token does not make
all later ones differ. Then each makes a picture of its own; its PSNR is against float32's. Without
--tiles, noise is restored: random weights know no pictures, and `--size` builds those. They agree
less often than trained ones, whose logits stand further apart. --stored says which dtype a file had
them in; "as given" is what the float32 model has, too. fp16 is what `auto` takes on most GPUs: the
tokenizer in bf16.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from tools.benchmarks.common import (
    DTYPES,
    add_model_options,
    chosen_weights,
    psnr,
    read_picture,
)
from varsr_core.tiling.noise import TileSeed
from varsr_core.varsr.acceleration import in_float8
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.sampling import (
    RefineSettings,
    SampleSettings,
    hidden_by_tile,
    next_hidden,
    refine_latent,
    refiner_noise,
    sample_scale,
    scale_logits,
    start_sampling,
)
from varsr_core.varsr.weights import build_model, fix_dtype

SEEDS = [TileSeed(0, 0)]
SAMPLING = SampleSettings()
PRECISIONS = (*DTYPES, "fp8")
AS_GIVEN = "as given"


def of_precision(name: str, weights: dict[str, Tensor]) -> VARSR:
    """bf16: all of it; fp16: with the tokenizer in bf16; fp8: bf16, 8-bit weights in the blocks."""
    dtype = DTYPES.get(name, torch.bfloat16)
    model = build_model(weights, dtype=dtype, wide_dtype=torch.bfloat16)
    return in_float8(model.state_dict(), model) if name == "fp8" else model


def stored(name: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as a file of a dtype gives them back."""
    if name == AS_GIVEN:
        return weights
    return {key: w.to(fix_dtype(key, w, DTYPES[name])) for key, w in weights.items()}


def tiles(arguments: argparse.Namespace, size: int) -> Iterator[Tensor]:
    """(1, 3, size, size) each, enlarged plainly."""
    if arguments.tiles is None:
        generator = torch.Generator().manual_seed(0)
        for _ in range(arguments.limit):
            yield torch.rand(1, 3, size, size, generator=generator)
        return
    for path in sorted(arguments.tiles.glob("*.png"))[: arguments.limit]:
        low = read_picture(path)[..., : size // 4, : size // 4]
        yield torch.nn.functional.interpolate(low, (size, size), mode="bicubic").clamp(0, 1)


def sampled(
    model: VARSR, lq: Tensor, sampling: SampleSettings = SAMPLING
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Ids and latents of every scale, and the picture, refined."""
    state = start_sampling(model, model.encode_prefix(lq), sampling, SEEDS)
    for scale in range(model.config.schedule.num_scales):
        sample_scale(model, state, scale, sampling)
    refining = RefineSettings(sampling.guidance)
    noise, rows = refiner_noise(model, SEEDS, refining.steps), hidden_by_tile(model, state)
    noise = noise.to(lq.device)
    residual = refine_latent(model, rows, state.token_ids[-1], noise, refining)
    return state.token_ids, state.latents[1:], model.decode(state.latent + residual)


def forced(
    model: VARSR, lq: Tensor, latents: list[Tensor], sampling: SampleSettings = SAMPLING
) -> list[Tensor]:
    """The ids it would choose at every scale behind the given latents."""
    state = start_sampling(model, model.encode_prefix(lq), sampling, SEEDS)
    chosen = []
    for scale, side in enumerate(model.config.schedule.sides):
        state.hidden = next_hidden(model, state, scale, keep=side * side)
        chosen.append(scale_logits(model, state, scale, sampling).argmax(dim=-1))
        state.latents.append(latents[scale])
    return chosen


def add_options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser)
    parser.add_argument("--tiles", type=Path)
    parser.add_argument("--limit", type=int, default=2)
    parser.add_argument("--guidance", type=float, default=SAMPLING.guidance)
    parser.add_argument("--only", nargs="+", choices=PRECISIONS, default=["bf16", "fp16", "fp8"])
    parser.add_argument("--stored", nargs="+", choices=[AS_GIVEN, *DTYPES], default=[AS_GIVEN])


@torch.inference_mode()
def run(arguments: argparse.Namespace) -> None:
    weights = chosen_weights(arguments)
    exact = of_precision("fp32", weights)
    given = list(tiles(arguments, exact.config.tile_size))
    sampling = SampleSettings(guidance=arguments.guidance)
    expected = [sampled(exact, lq, sampling) for lq in given]
    sides = exact.config.schedule.sides
    del exact
    for kept, name in product(arguments.stored, arguments.only):
        gc.collect()
        model = of_precision(name, stored(kept, weights))
        same = torch.zeros(len(sides), dtype=torch.float64)
        heard = []
        for lq, (ids, latents, picture) in zip(given, expected, strict=True):
            chosen = forced(model, lq, latents, sampling)
            pairs = zip(chosen, ids, strict=True)
            same += torch.tensor([(a == b).double().mean() for a, b in pairs])
            heard.append(psnr(sampled(model, lq, sampling)[2], picture))
        shares = ", ".join(f"{s}: {x:.1%}" for s, x in zip(sides, same / len(given), strict=True))
        tokens = sum(side**2 for side in sides)
        whole = sum(s**2 * x for s, x in zip(sides, same / len(given), strict=True)) / tokens
        print(f"{name}, weights {kept}, {len(given)} tiles: {whole:.2%} of all tokens as in fp32")
        print(f"  {shares}")
        mean = sum(heard) / len(heard)
        print(f"  picture {min(heard):.1f} to {max(heard):.1f} dB, mean {mean:.1f}", flush=True)
