"""Numbers recorded from the public code, and our model with the same weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers import models, weight_recipe
from helpers.paths import DATA
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.sampling import SampleSettings, next_hidden, scale_logits, start_sampling
from varsr_core.varsr.weights import build_model, convert

SIDES = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
PREFIX_TOKENS = SIDES[-1] ** 2


@dataclass(frozen=True)
class Fed:
    """What our model makes of the recorded latents, per scale; hidden is of the last one."""

    positive: list[Tensor]
    negative: list[Tensor]
    guided: list[Tensor]
    hidden: Tensor


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As fast as two on a busy machine, and the same rounding on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    return load_file(DATA / "varsr_tiny.safetensors")


@pytest.fixture(scope="session")
def tiny_reference() -> dict[str, Tensor]:
    """The state dict the numbers were recorded with, under the released names."""
    numbers = np.concatenate([np.full(side * side, k) for k, side in enumerate(SIDES)])
    numbers = np.concatenate((np.zeros(PREFIX_TOKENS, int), numbers))
    reference: dict[str, Tensor] = {}
    for part in json.loads((DATA / "varsr_tiny_manifest.json").read_text()).values():
        for name, (shape, _) in part.items():
            if name == "lvl_1L":
                reference[name] = torch.from_numpy(numbers)[None]
            elif name == "attn_bias_for_masking":
                reference[name] = torch.zeros(1, 1, 1, 1).expand(shape)
            else:
                values = weight_recipe.tensor(name, shape, 0)
                reference[name] = torch.from_numpy(np.asarray(values).reshape(shape))
    return reference


@pytest.fixture(scope="session")
def tiny(tiny_reference: dict[str, Tensor]) -> VARSR:
    return build_model(convert(tiny_reference))


@pytest.fixture(scope="session")
def picture() -> Tensor:
    """(1, 3, 512, 512) in [-1, 1], as the networks take it."""
    return torch.from_numpy(weight_recipe.picture(512, 0))[None]


@pytest.fixture(scope="session")
def refiner_noise() -> Tensor:
    """(11, 1024, 32): the start, then one draw a step."""
    return torch.from_numpy(weight_recipe.refiner_noise(11, PREFIX_TOKENS, 32, 0))


@pytest.fixture(scope="session")
def fed(tiny: VARSR, golden: dict[str, Tensor]) -> Fed:
    """The transformer with every scale fed the recorded latent, from the recorded prefix on."""
    settings = SampleSettings(guidance=6.0)
    found = Fed([], [], [], torch.empty(0))
    with torch.inference_mode():
        prefix = golden["prefix_embed"].flatten(2).transpose(1, 2)
        state = start_sampling(tiny, prefix, settings, models.own_seeds(1))
        for scale, side in enumerate(SIDES):
            state.hidden = next_hidden(tiny, state, scale, keep=side * side)
            positive, negative = tiny.transformer.logits(state.hidden, state.classes).chunk(2)
            found.positive.append(positive)
            found.negative.append(negative)
            found.guided.append(scale_logits(tiny, state, scale, settings))
            state.latents.append(golden[f"f_hat.{scale}"])
    return Fed(found.positive, found.negative, found.guided, state.hidden)
