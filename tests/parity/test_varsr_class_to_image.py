"""The class-to-image model against numbers recorded from the public code."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers import weight_recipe
from helpers.each import each
from helpers.paths import DATA
from varsr_core.nn.token_sampling import guide
from varsr_core.runtime.execution import Execution
from varsr_core.varsr.class_to_image import SAMPLING, class_to_image
from varsr_core.varsr.kinds import refiner_guidance
from varsr_core.varsr.refiner import sample_residual
from varsr_core.varsr.sampling import (
    RefineSettings,
    next_hidden,
    refine_latent,
    refiner_condition,
    scale_logits,
    start_sampling,
)
from varsr_core.varsr.stages import decode_tokens
from varsr_core.varsr.weights import build_model, convert

SIDES = (1, 2, 3, 4, 6, 9, 12, 16, 20, 24, 28, 32)
SCALES = range(12)
LABEL, CFG = 3, 4.0
CLEAR_MARGIN = 0.01  # below it, rounding may pick the other token
TOKENS_KEPT, PIXELS_KEPT = 8, 4  # every so many, of the refiner and of the picture
GREEDY = replace(SAMPLING, top_k=1)


@pytest.fixture(scope="module")
def golden():
    return load_file(DATA / "varsr_c2i_tiny.safetensors")


@pytest.fixture(scope="module")
def tiny():
    numbers = np.concatenate([np.full(side * side, k) for k, side in enumerate(SIDES)])
    reference = {"lvl_1L": torch.from_numpy(numbers)[None]}
    for part in json.loads((DATA / "varsr_c2i_tiny_manifest.json").read_text()).values():
        for name, (shape, _) in part.items():
            if name == "attn_bias_for_masking":
                reference[name] = torch.zeros(1, 1, 1, 1).expand(shape)
            elif name != "lvl_1L":
                values = weight_recipe.tensor(name, shape, 0)
                reference[name] = torch.from_numpy(np.asarray(values).reshape(shape))
    return build_model(convert(reference))


@pytest.fixture(scope="module")
def noise():
    return torch.from_numpy(weight_recipe.refiner_noise(11, 1024, 32, 0))


@pytest.fixture(scope="module")
def fed(tiny, golden):
    """Every scale fed the recorded tokens: logits of both rows, guided ones, latents, hidden."""
    found = {"cond": [], "neg": [], "guided": [], "latent": []}
    settings = replace(GREEDY, quality_class=LABEL)
    with torch.inference_mode():
        nothing = torch.zeros(1, 0, 128)
        state = start_sampling(tiny, nothing, settings, [None])
        for scale, side in enumerate(SIDES):
            state.hidden = next_hidden(tiny, state, scale, keep=side * side)
            positive, negative = tiny.transformer.logits(state.hidden, state.classes).chunk(2)
            found["cond"].append(positive)
            found["neg"].append(negative)
            found["guided"].append(scale_logits(tiny, state, scale, settings))
            ids = golden[f"idx.{scale}"].long()
            state.latents.append(state.latent + tiny.quantizer.residual(ids, scale))
            found["latent"].append(state.latent)
    return {**found, "hidden": state.hidden}


def test_schedule_and_classes_are_read_off_the_weights(tiny):
    assert tiny.config.schedule.sides == SIDES
    assert (tiny.config.transformer.num_classes, tiny.config.prefix_tokens) == (11, 0)


@each("scale", SCALES)
@each("row", ["cond", "neg"])
def test_logits_equal_the_recorded_ones(fed, golden, scale, row):
    recorded = golden[f"logits_{row}.{scale}"]
    ours = fed[row][scale][:, : recorded.shape[1]]
    assert (ours - recorded).abs().max().item() <= 2e-4


@each("scale", SCALES)
def test_tokens_equal_the_recorded_ones_wherever_the_choice_is_clear(fed, golden, scale):
    best, second = fed["guided"][scale].topk(2, dim=-1).values.unbind(-1)
    clear = best - second > CLEAR_MARGIN
    assert clear.any()
    ours = fed["guided"][scale].argmax(dim=-1)
    assert torch.equal(ours[clear], golden[f"idx.{scale}"].long()[clear])


def test_guidance_is_what_the_public_code_has(fed):
    for scale in SCALES:
        guided = guide(fed["cond"][scale], fed["neg"][scale], CFG * (scale + 1) / 11)
        torch.testing.assert_close(fed["guided"][scale], guided)


@each("scale", [0, 5, 11])
def test_recorded_tokens_add_up_to_the_recorded_latent(fed, golden, scale):
    error = (fed["latent"][scale] - golden[f"f_hat.{scale}"]).abs().max().item()
    assert error <= 1e-3


def test_refiner_takes_what_is_recorded_and_makes_what_is_recorded(tiny, fed, golden, noise):
    recorded = golden["refiner.cond"]
    with torch.inference_mode():
        ids = golden["idx.11"].long()
        condition = refiner_condition(tiny, fed["hidden"].unflatten(0, (2, -1)), ids)[:, 0]
        residual = sample_residual(
            tiny.refiner,
            recorded,
            noise[:, ::TOKENS_KEPT],
            guidance=refiner_guidance(tiny, CFG),
            steps=10,
        )
    torch.testing.assert_close(condition[:, ::TOKENS_KEPT], recorded, atol=1e-3, rtol=0)
    assert (residual - golden["refiner.residual"]).abs().max().item() <= 1e-3


def test_free_run_makes_the_recorded_tokens_latent_and_picture(tiny, golden, noise):
    _, tokens = class_to_image(tiny, LABEL, sampling=GREEDY, refining=RefineSettings(strength=0.0))
    different = sum(
        (ours != golden[f"idx.{scale}"]).sum().item() for scale, ours in enumerate(tokens.token_ids)
    )
    assert different <= 0.005 * sum(side * side for side in SIDES)
    settings = RefineSettings(guidance=refiner_guidance(tiny, CFG))
    ordered = noise.transpose(1, 2).unflatten(2, (32, 32))[None]
    with torch.inference_mode():
        residual = refine_latent(tiny, tokens.hidden, tokens.token_ids[-1], ordered, settings)
    refined = tokens.latent + residual
    assert (refined - golden["f_hat.final"]).abs().mean().item() <= 1e-3
    image = decode_tokens(tiny, replace(tokens, refined=refined), Execution())
    error = image[..., ::PIXELS_KEPT, ::PIXELS_KEPT] - golden["image"].float()
    assert error.abs().mean().item() <= 2e-3
