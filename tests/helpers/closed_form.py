"""Models whose first weights are solved for, and the pairs of pictures to solve from."""

from __future__ import annotations

import copy
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from helpers.paths import KITTEN
from helpers.training import SIZES
from varsr_core.training.closed_form.tokenizer import linear_start
from varsr_core.training.stages.encoded_target import encode_target
from varsr_core.training.stages.tokenizer import revive_codes
from varsr_core.training.starting.new_model import config_from_json, new_model

CODES = 64


def roomy_sizes(tokenizer=None, schedule=(1, 2, 3, 4), **transformer):
    """The test model's, with room for all."""
    room = {"width": 96, "mlp_width": 160, "prefix_widths": (16, 48)}
    narrow = {"widths": (16, 48), "norm_groups": 4, "codebook_size": CODES}
    return {
        **SIZES,
        "tokenizer": {**SIZES["tokenizer"], **narrow, **(tokenizer or {})},
        "transformer": {**SIZES["transformer"], **room, **transformer},
        "schedule": schedule,
    }


BIG = "odd ratios of sides"
CASES = {
    "2 pixels a token": roomy_sizes(),
    "4 pixels a token": roomy_sizes(
        {"widths": (16, 48, 64), "latent_channels": 16}, prefix_widths=(6, 24, 64)
    ),
    "more pixels than components": roomy_sizes(prefix_widths=(6, 32)),
    BIG: roomy_sizes(schedule=(1, 3, 5, 12, 16), width=128),
}


def crops(side):
    """Of every other strip of the photograph, to solve from, and of those between."""
    pixels = torch.from_numpy(np.array(Image.open(KITTEN).convert("RGB")))
    strips = (pixels.permute(2, 0, 1).float() / 255).split(max(32, 2 * side), dim=2)
    step = max(4, side // 4)
    found = [strip.unfold(1, side, step).unfold(2, side, step) for strip in strips]
    found = [part.permute(1, 2, 0, 3, 4).flatten(0, 1) for part in found]
    return torch.cat(found[::2]), torch.cat(found[1::2])


def pair(model, pictures, seed):
    generator = torch.Generator().manual_seed(seed)
    lq = F.interpolate(F.avg_pool2d(pictures, 2), pictures.shape[2:], mode="bilinear")
    lq = lq + 0.05 * torch.randn(lq.shape, generator=generator)
    return lq, torch.zeros(len(lq), dtype=torch.long), encode_target(model, pictures)


@lru_cache
def _drawn(case):
    model = new_model(config_from_json(CASES[case]), seed=0)
    seen, held_out = crops(model.config.tile_size)
    linear_start(model, seen[:64], 0.6)
    for seed in range(4):
        revive_codes(model, seen, torch.Generator().manual_seed(seed))
    samples = [pair(model, part, seed) for seed, part in enumerate(seen.split(64))]
    return SimpleNamespace(
        model=model, samples=samples, pictures=held_out, held_out=pair(model, held_out, 99)
    )


def drawn(case):
    """A model with a tokenizer, pairs to solve from, pictures and pairs to judge by: a copy."""
    return copy.deepcopy(_drawn(case))


def batch_of(found, count, seed=0):
    lq, target = found.held_out[0][:count], found.pictures[:count]
    return lq, target, torch.Generator().manual_seed(seed)
