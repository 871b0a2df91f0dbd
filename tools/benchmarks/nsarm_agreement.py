"""How often a faster precision chooses the same bits of NSARM: teacher-forced, of a small model.

    python tools/benchmarks nsarm_agreement [--limit 1] [--only bf16 fp16] [--stored fp32 bf16 fp16]

The model is the one with which tests/data/nsarm_trace.safetensors was recorded. As in agreement:
every precision goes on from the latents that float32 made, then makes a picture of its own.
"""

from __future__ import annotations

import argparse
from itertools import product

import torch
from torch import Tensor

from helpers.nsarm_goldens import GREEDY, SIDES, reference, trace
from tools.benchmarks.common import DTYPES, psnr
from varsr_core.nsarm.config import FORCED
from varsr_core.nsarm.model import build_model, fix_dtype
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.nsarm.sampling import force_scales, sample_scale
from varsr_core.nsarm.weights import convert
from varsr_core.tiling.noise import TileSeed

SEEDS = [TileSeed(0, 0)]


def restorer(dtype: str, stored: str) -> NSARMRestorer:
    """dtype: of the arithmetic; stored: of the file that the weights were in."""
    weights = {
        name: weight.detach().to(fix_dtype(name, weight, DTYPES[stored]))
        for name, weight in convert(reference()).items()
    }
    model = build_model(weights, sides=SIDES, dtype=DTYPES[dtype], wide_dtype=torch.bfloat16)
    return NSARMRestorer(model, GREEDY, trace()["in.text_features"])


def sampled(
    by: NSARMRestorer, codes: list[Tensor], told: list[Tensor] | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Bits of every scale and the latents behind it; told: latents to go on from instead."""
    state = by.start_from(codes, SEEDS)
    force_scales(by.model, state, by.sampling)
    for number, scale in enumerate(range(FORCED, len(SIDES))):
        if told is not None:
            state.latent = told[number]
        sample_scale(by.model, state, scale, by.sampling)
    return state.bits, state.latents[1:]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=DTYPES, default=["bf16", "fp16"])
    parser.add_argument("--stored", nargs="+", choices=DTYPES, default=["fp32"])


@torch.inference_mode()
def run(arguments: argparse.Namespace) -> None:
    exact = restorer("fp32", "fp32")
    generator = torch.Generator().manual_seed(0)
    size = exact.tile_size // exact.reduction
    given = [torch.rand(1, 3, size, size, generator=generator) for _ in range(arguments.limit)]
    codes = [exact.forced_codes(lq) for lq in given]
    expected = [sampled(exact, one) for one in codes]
    for stored, dtype in product(arguments.stored, arguments.only):
        by, alike, signs, heard = restorer(dtype, stored), [], [], []
        for lq, one, (bits, latents) in zip(given, codes, expected, strict=True):
            own = by.forced_codes(lq)
            signs += [(a == b).double().mean().item() for a, b in zip(own, one, strict=True)]
            chosen, _ = sampled(by, one, latents)
            pairs = zip(chosen, bits, strict=True)
            alike.append(torch.cat([(a == b).flatten() for a, b in pairs]).double().mean().item())
            picture = by.model.decode(sampled(by, own)[1][-1])
            heard.append(psnr(picture, exact.model.decode(latents[-1])))
        print(
            f"{dtype}, weights {stored}, {len(given)} tiles: {sum(alike) / len(alike):.2%} of all "
            f"bits as in fp32, {sum(signs) / len(signs):.2%} of those of the map network; picture "
            f"{min(heard):.1f} to {max(heard):.1f} dB",
            flush=True,
        )
