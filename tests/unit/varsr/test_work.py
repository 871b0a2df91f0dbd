"""The bar stands where the arithmetic is: what VARSR's stages count is what torch counts."""

from functools import cache
from itertools import pairwise

import pytest
import torch

from helpers import models
from helpers.counted import largest_distance
from helpers.told import assert_rises_to_its_total
from tools.random_checkpoint import (
    SMALL,
    Sizes,
    random_weights,
    tokenizer_shapes,
    transformer_shapes,
)
from varsr_core.runtime.cuda_graphs import Recorder
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr import stages
from varsr_core.varsr.acceleration import accelerated
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.weights import build_model, convert

CLOSE = 0.01  # of the whole: words, codes and phi are not counted
SIZES = Sizes(
    128, 3, 4, 512, (1, 2, 3, 4, 6, 8), (32, 32, 64, 64, 64), 32, (32, 32, 64, 64, 128), 96, 2
)
PICTURE = models.picture(32, 30)
FOUR_TILES = models.picture(50, 40)


@cache
def model():
    """Deep and wide enough that blocks, head, refiner and decoder all count."""
    with torch.inference_mode():
        return build_model(
            convert(random_weights(tokenizer_shapes(SIZES) | transformer_shapes(SIZES), SIZES))
        )


def upscaled(image=PICTURE, mode="phased", size=4.0, mask=None, refining=None, **sampling):
    how = VARSRRestorer(model(), SampleSettings(**sampling), refining or RefineSettings())
    settings = UpscaleSettings(Tiling(mode))
    return lambda execution: upscale(
        image, size, how, settings=settings, mask=mask, execution=execution
    )


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"guidance": 0.0},
        {"unguided_scales": 2},
        {"guidance_schedule": "constant"},
        {"refining": RefineSettings(strength=0.0)},
        {"refining": RefineSettings(guidance=0.0, steps=40)},
    ],
    ids=str,
)
def test_bar_of_one_tile_is_the_share_of_its_arithmetic(monkeypatch, choices):
    distance, told = largest_distance(monkeypatch, upscaled(**choices))
    assert distance < CLOSE
    assert told > 40, "often within scales, refiner and decoder, too"


@pytest.mark.parametrize("mode", TILING_MODES)
@pytest.mark.parametrize("at_once", [1, 3])
def test_bar_of_several_tiles_is_the_share_of_their_arithmetic(monkeypatch, mode, at_once):
    distance, _ = largest_distance(monkeypatch, upscaled(FOUR_TILES, mode), at_once)
    assert distance < CLOSE


def test_bar_of_a_canvas_that_is_decoded_in_pieces(monkeypatch):
    monkeypatch.setattr("varsr_core.tiling.decode.MEASURED_PIXELS", 0)
    distance, _ = largest_distance(monkeypatch, upscaled(models.picture(80, 70), size=4.0))
    assert distance < 0.02


def test_bar_of_several_pictures_and_of_tiles_in_a_mask(monkeypatch):
    images = models.picture(50, 40, images=2)
    distance, _ = largest_distance(monkeypatch, upscaled(images), at_once=3)
    assert distance < CLOSE
    mask = torch.zeros(2, 1, 50, 40)
    mask[1, :, 40:] = 1
    distance, _ = largest_distance(monkeypatch, upscaled(images, mask=mask))
    assert distance < CLOSE


def test_bars_of_the_stages(monkeypatch):
    plain, image, sampling = Execution(), FOUR_TILES, SampleSettings()
    prefix = stages.encode_prefix(model(), image, 4.0, plain)
    encoded = stages.encode_tokens(model(), image, 4.0, plain)
    tokens = stages.sample_tokens(model(), prefix, sampling, 0, plain)
    kept = {"tokens": encoded, "first_scale": 3, "stop_scale": 5}
    runs = {
        "prefix": lambda e: stages.encode_prefix(model(), image, 4.0, e),
        "tokens": lambda e: stages.encode_tokens(model(), image, 4.0, e),
        "sample": lambda e: stages.sample_tokens(model(), prefix, sampling, 0, e),
        "resumed": lambda e: stages.sample_tokens(model(), prefix, sampling, 0, e, **kept),
        "refine": lambda e: stages.refine_tokens(model(), tokens, RefineSettings(), 0, e),
        "decode": lambda e: stages.decode_tokens(model(), tokens, e),
        "scales": lambda e: stages.decode_scales(model(), tokens, e),
    }
    found = {name: largest_distance(monkeypatch, run)[0] for name, run in runs.items()}
    assert max(found.values()) < 0.02, found


def test_steps_counted_alike_would_be_far_off(monkeypatch):
    """So the tests above can fail."""
    alike = lambda part, device_type: 1  # noqa: E731
    monkeypatch.setattr("varsr_core.runtime.work.Calls.units", alike)
    distance, _ = largest_distance(monkeypatch, upscaled())
    assert distance > 0.15


def test_bar_moves_often_and_in_small_steps_with_the_released_schedule():
    with torch.inference_mode():
        small = build_model(
            convert(random_weights(tokenizer_shapes(SMALL) | transformer_shapes(SMALL), SMALL))
        )
    bar = [progress.done / progress.total for progress in told_by(small)]
    assert len(set(bar)) > 40
    assert max(b - a for a, b in pairwise(bar)) < 0.15


def test_recorded_parts_are_told_of_as_a_whole():
    """Nothing may happen within a recording."""
    small = models.micro_model()
    recorded = told_by(accelerated(small, recorder=Recorder(device="none")))
    plain = told_by(small)
    assert {progress.total for progress in recorded} == {progress.total for progress in plain}
    blocks, scales, steps = 2, 4, 10
    convolutions = len(small.prefix_encoder.blocks) + 2
    assert len(recorded) == len(plain) - convolutions - blocks * scales - steps


def told_by(model):
    seen = []
    execution = Execution(on_progress=seen.append)
    upscale(models.picture(16, 16), 4.0, VARSRRestorer(model), execution=execution)
    assert_rises_to_its_total(seen)
    return seen
