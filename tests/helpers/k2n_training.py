"""A VARSR whose tokens tell pictures apart, for a K2N to be trained for."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from helpers import models
from helpers.k2n_files import micro_varsr
from varsr_core.checkpoint import save_checkpoint
from varsr_core.training.stages.tokenizer import revive_codes
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.training.kind import checkpoint

TILE = 128  # pixels
DEVIATION = 0.6
SIZES = {
    "sides": [1, 2, 3],
    "widths": [32, 64, 64],
    "layers": [1, 1, 1],
    "heads": [4, 4, 4],
    "extractor": [32, 32],
}


@lru_cache
def tiles() -> Tensor:
    """Four good pictures."""
    return torch.cat([models.picture(TILE, TILE, seed=seed) for seed in range(4)])


@lru_cache
def telling_varsr() -> VARSR:
    """Drawn weights make all latents alike: here they differ about 0, and codes lie among them."""
    with torch.inference_mode(False), torch.no_grad():
        model = copy.deepcopy(micro_varsr())
        latent, last = model.encode_latent(tiles()), model.pre_quantizer
        mean = latent.mean((0, 2, 3), keepdim=True)
        factor = DEVIATION / (latent - mean).std()
        last.bias.sub_(mean.flatten()).mul_(factor)
        last.weight.mul_(factor)
        for seed in range(3):
            revive_codes(model, tiles(), torch.Generator().manual_seed(seed))
    return model


def write_varsr(path: Path, model: VARSR | None = None) -> Path:
    """By default that one."""
    save_checkpoint(checkpoint(model or telling_varsr()), path, torch.float32, metadata={})
    return path


def write_pictures(folder: Path, pictures: Tensor) -> Path:
    """The folder, with 0.png, 1.png, ..."""
    folder.mkdir()
    for number, picture in enumerate(pictures):
        pixels = picture.permute(1, 2, 0).mul(255).round().byte().numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder
