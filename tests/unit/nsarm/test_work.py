"""The bar stands where the arithmetic is: what NSARM's stages count is what torch counts."""

import pytest

from helpers import models
from helpers.counted import largest_distance
from helpers.nsarm_goldens import model, trace
from helpers.told import assert_rises_to_its_total
from varsr_core.nsarm import stages
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.nsarm.sampling import SampleSettings
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.upscaling import UpscaleSettings, upscale

CLOSE = 0.02  # of the whole: words, bits and the text are not counted


def restorer(text=True, **settings):
    features = trace()["in.text_features"] if text else None
    return NSARMRestorer(model(), SampleSettings(**settings), features)


def upscaled(how, image, mode="phased"):
    settings = UpscaleSettings(Tiling(mode))
    return lambda execution: upscale(image, 2.0, how, settings=settings, execution=execution)


@pytest.mark.parametrize(
    "choices", [{}, {"text": False}, {"guidance": 3.0}, {"text": False, "guidance": 3.0}], ids=str
)
def test_bar_of_one_tile_is_the_share_of_its_arithmetic(monkeypatch, choices):
    run = upscaled(restorer(**choices), models.picture(256, 256))
    distance, told = largest_distance(monkeypatch, run)
    assert distance < CLOSE
    assert told > 40


@pytest.mark.parametrize("mode", TILING_MODES)
def test_bar_of_several_tiles_is_the_share_of_their_arithmetic(monkeypatch, mode):
    run = upscaled(restorer(), models.picture(256, 300), mode)
    assert largest_distance(monkeypatch, run)[0] < CLOSE


def test_bars_of_the_stages(monkeypatch):
    how, plain = restorer(guidance=2.0), Execution()
    image = models.picture(256, 256)
    prefix = stages.encode_prefix(how, image, 2.0, plain)
    sampled = stages.sample(how, prefix, 0, plain)
    runs = {
        "prefix": lambda e: stages.encode_prefix(how, image, 2.0, e),
        "sample": lambda e: stages.sample(how, prefix, 0, e),
        "decode": lambda e: stages.decode(how, sampled, e),
    }
    found = {name: largest_distance(monkeypatch, run)[0] for name, run in runs.items()}
    assert max(found.values()) < CLOSE, found


def test_stages_are_named_by_the_scales_of_the_model():
    seen = []
    run = upscaled(restorer(), models.picture(256, 256))
    run(Execution(on_progress=seen.append))
    assert_rises_to_its_total(seen)
    stage_names = list(dict.fromkeys(str(progress.stage) for progress in seen))
    scales = [f"scale {number} of 10" for number in range(7, 11)]
    assert stage_names == ["encoding", *scales, "decoding", "finishing"]
