"""Small NSARMs that can learn a few pictures, from files as a user has them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from helpers import models
from tools.random_nsarm import MICRO, Sizes, write_release
from varsr_core.images.resize import resize
from varsr_core.nsarm.model import NSARM
from varsr_core.nsarm.training.start import started
from varsr_core.training.config import TrainingConfig
from varsr_core.training.data.small_pairs import SmallPairBatch
from varsr_core.training.starting.sources import Sources

LEARNING = Sizes(28, 2, 1, 64, 16, 14, 32, (1, 2, 3, 4, 5, 6, 7, 8, 14))  # two sampled scales
MAPS = {  # as wide as it takes to keep the bits of two pictures
    "side": LEARNING.map_side,
    "extractor": [32, 32],
    "widths": [32, 48, 64, 80, 80, 132, 80],
    "layers": [1] * 7,
}
DEVIATION = 1.5


def write_infinity(folder: Path, sizes: Sizes = LEARNING) -> Path:
    """A transformer without a map network, its autoencoder beside it."""
    path, _ = write_release(folder, sizes)
    state = torch.load(path, weights_only=True)["trainer"]["gpt_fsdp"]
    kept = {name: t for name, t in state.items() if not name.startswith("map_transformer.")}
    torch.save(kept, path)
    return path


def learner(folder: Path) -> NSARM:
    """A model whose latents tell pictures apart, with a new map network."""
    start = Sources(start=write_infinity(folder))
    model = started(TrainingConfig(sizes=MAPS), start)
    with torch.no_grad():
        latent, last = model.encode(batch(model).target), model.vae.encoder.conv_out
        mean = latent.mean((0, 2, 3), keepdim=True)
        factor = DEVIATION / (latent - mean).std((0, 2, 3))
        last.bias.sub_(mean.flatten()).mul_(factor)
        last.weight.mul_(factor[:, None, None, None])
    return model


def micro(folder: Path) -> NSARM:
    return started(TrainingConfig(), Sources(start=write_release(folder, MICRO)[0]))


def batch(model: NSARM, pictures: int = 2) -> SmallPairBatch:
    """Smooth pictures, undamaged but smaller."""
    size, small = model.config.tile_size, model.config.lq_size
    target = torch.cat([_smooth(seed, size) for seed in range(pictures)])
    return SmallPairBatch(resize(target, small, small), target, [None] * pictures)


def _smooth(seed: int, size: int) -> Tensor:
    return resize(models.picture(16, 16, seed=seed), size, size)
