"""Tiny models with random weights, and pictures, for tests of every folder."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tools.random_checkpoint import (
    MICRO,
    Sizes,
    random_weights,
    tokenizer_shapes,
    transformer_shapes,
)
from varsr_core.checkpoint import fingerprint
from varsr_core.tiling.noise import TileSeed
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.weights import build_model, convert


def reference_weights(sizes: Sizes = MICRO, seed: int = 0) -> dict[str, Tensor]:
    """Tokenizer and transformer under the released names, in which the picture matters."""
    tokenizer = random_weights(tokenizer_shapes(sizes), sizes, seed)
    transformer = random_weights(transformer_shapes(sizes), sizes, seed + 1)
    for name, tensor in transformer.items():
        if name.startswith("con_embedding") and name.endswith("weight"):
            tensor.mul_(2)  # SiLU halves; else the picture fades out over the ten layers
    return tokenizer | transformer


@lru_cache
def converted_weights(seed: int = 0) -> dict[str, Tensor]:
    """MICRO weights under our names."""
    with torch.inference_mode(False):  # kept for all tests, whoever asked first
        return convert(reference_weights(MICRO, seed))


@lru_cache
def micro_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> VARSR:
    """A whole model for tiles of 64 pixels: 4 scales, 2 blocks, 64 codes."""
    weights = converted_weights(seed)
    return build_model(weights, dtype=dtype, fingerprint=fingerprint(weights))


def own_seeds(count: int) -> list[TileSeed]:
    """Of tiles that share no noise, as if each lay on a picture of its own."""
    return [TileSeed(tile=number, canvas=number) for number in range(count)]


def picture(
    height: int, width: int, *, channels: int = 3, images: int = 1, seed: int = 0
) -> Tensor:
    """Gratings with a little noise: (images, channels, height, width) float32 in [0, 1]."""
    random = np.random.default_rng([seed, height, width, channels])
    y, x = np.mgrid[0:height, 0:width] / 40
    waves = random.uniform(-2, 2, (2, images, channels, 1, 1))
    phase = random.uniform(0, 6, (images, channels, 1, 1))
    values = 0.5 + 0.35 * np.sin(2 * np.pi * (waves[0] * x + waves[1] * y) + phase)
    noise = random.uniform(-0.1, 0.1, values.shape)
    return torch.from_numpy(np.clip(values + noise, 0, 1).astype(np.float32))
