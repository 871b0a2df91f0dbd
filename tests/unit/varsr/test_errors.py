"""Combinations of stages and settings that cannot work are refused before any work."""

import math
from dataclasses import replace

import pytest
import torch

from helpers import models
from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import Tiling
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import (
    decode_scales,
    decode_tokens,
    encode_prefix,
    encode_tokens,
    refine_tokens,
    sample_tokens,
)

ONE_BY_ONE = Execution()
SETTINGS = SampleSettings()


def must_not_work():
    raise AssertionError("work began")


REFUSES = Execution(prepare=must_not_work)


@pytest.fixture
def model():
    return models.micro_model()


@pytest.fixture
def other():
    return models.micro_model(seed=1)


@pytest.fixture
def image():
    return models.picture(24, 24)


@pytest.fixture
def prefix(model, image):
    return encode_prefix(model, image, 2.0, ONE_BY_ONE)


@pytest.fixture
def tokens(model, prefix):
    return sample_tokens(model, prefix, SETTINGS, 0, ONE_BY_ONE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance", math.nan),
        ("guidance", float("nan")),
        ("guidance", float("inf")),
        ("guidance_schedule", "cubic"),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", float("nan")),
        ("temperature", -0.5),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("ssg", -0.1),
        ("ssg", float("nan")),
        ("guidance_per_scale", "a, b"),
        ("guidance_per_scale", "0, -1"),
    ],
)
def test_sampling_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name}[: ].*is expected"):
        SampleSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance", math.nan),
        ("guidance", float("nan")),
        ("guidance", float("inf")),
        ("steps", 1),
        ("steps", 1001),
        ("strength", float("nan")),
    ],
)
def test_refining_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name} is {value}.* is expected"):
        RefineSettings(**{name: value})


@each("quality_class", [-1, 2])
def test_unknown_quality_class_is_refused(model, prefix, quality_class):
    settings = SampleSettings(quality_class=quality_class)
    with pytest.raises(InputError, match=f"quality class {quality_class} is not within 0 and 1"):
        sample_tokens(model, prefix, settings, 0, ONE_BY_ONE)


def test_bad_picture_is_refused_by_every_first_stage(model):
    bad = torch.full((1, 3, 24, 24), torch.nan)
    for stage in (encode_prefix, encode_tokens):
        with pytest.raises(InputError, match="NaN"):
            stage(model, bad, 2.0, REFUSES)


@each("size", [0.0, -1.0, 1e6, float("nan")])
def test_bad_size_is_refused_by_every_first_stage(model, image, size):
    for stage in (encode_prefix, encode_tokens):
        with pytest.raises(InputError, match="scale"):
            stage(model, image, size, REFUSES)


def test_prefix_of_another_model_is_refused(model, other, prefix):
    with pytest.raises(InputError, match="prefix was made with another model"):
        sample_tokens(other, prefix, SETTINGS, 0, REFUSES)


def test_tokens_of_another_model_are_refused_by_every_stage(model, other, image, tokens):
    theirs = encode_prefix(other, image, 2.0, ONE_BY_ONE)
    stages = (
        lambda: sample_tokens(other, theirs, SETTINGS, 0, REFUSES, tokens=tokens, first_scale=1),
        lambda: refine_tokens(other, tokens, RefineSettings(), 0, REFUSES),
        lambda: decode_tokens(other, tokens, REFUSES),
        lambda: decode_scales(other, tokens, REFUSES),
    )
    for stage in stages:
        with pytest.raises(InputError, match=r"tokens was made with another model.*same Load"):
            stage()


@each("stop", [5, 100, -1])
def test_stop_beyond_the_schedule_is_refused(model, prefix, stop):
    with pytest.raises(InputError, match=f"stop_scale {stop} is beyond the 4 scales"):
        sample_tokens(model, prefix, SETTINGS, 0, REFUSES, stop_scale=stop)


@each(("first", "stop", "most"), [(4, 0, 3), (9, 0, 3), (2, 2, 1), (-1, 0, 3)])
def test_start_that_leaves_nothing_to_sample_is_refused(model, prefix, tokens, first, stop, most):
    with pytest.raises(InputError, match=f"first_scale {first} .*at most {most} can be kept"):
        sample_tokens(
            model, prefix, SETTINGS, 0, REFUSES, tokens=tokens, first_scale=first, stop_scale=stop
        )


def test_start_without_tokens_is_refused_with_where_to_get_them(model, prefix):
    with pytest.raises(InputError, match="tokens is not connected; connect VARSR Encode Image"):
        sample_tokens(model, prefix, SETTINGS, 0, REFUSES, first_scale=2)


def test_start_beyond_the_tokens_is_refused(model, prefix):
    short = sample_tokens(model, prefix, SETTINGS, 0, ONE_BY_ONE, stop_scale=1)
    with pytest.raises(InputError, match="keeps 2 scales, but tokens stop after 1"):
        sample_tokens(model, prefix, SETTINGS, 0, REFUSES, tokens=short, first_scale=2)


@each(
    ("size", "images", "scale"),
    [((24, 48), 1, 2.0), ((24, 24), 2, 2.0), ((24, 24), 1, 3.5), ((20, 31), 1, 2.0)],
)
def test_tokens_of_another_size_are_refused_with_both_sizes(model, prefix, size, images, scale):
    others = encode_tokens(model, models.picture(*size, images=images), scale, ONE_BY_ONE)
    with pytest.raises(InputError, match=r"tokens hold .* prefix 1 of 48x48; .*same output size"):
        sample_tokens(model, prefix, SETTINGS, 0, REFUSES, tokens=others, first_scale=1)


def test_as_many_tiles_in_another_arrangement_are_refused(model):
    wide, tall = models.picture(32, 48), models.picture(48, 32)
    prefix = encode_prefix(model, wide, 2.0, ONE_BY_ONE)
    others = encode_tokens(model, tall, 2.0, ONE_BY_ONE)
    assert len(prefix.tokens) == len(others.latent) == 2
    with pytest.raises(InputError, match=r"2 tiles of 64x96, prefix 2 of 96x64"):
        sample_tokens(model, prefix, SETTINGS, 0, REFUSES, tokens=others, first_scale=1)


def test_tokens_of_another_overlap_are_refused(model):
    image = models.picture(24, 64)
    prefix = encode_prefix(model, image, 2.0, ONE_BY_ONE, Tiling(overlap=0.0))
    others = encode_tokens(model, image, 2.0, ONE_BY_ONE, overlap=0.5)
    with pytest.raises(InputError, match=r"3 tiles of 128x48, prefix 2 of 128x48.*overlap"):
        sample_tokens(model, prefix, SETTINGS, 0, REFUSES, tokens=others, first_scale=1)


def test_encoded_tokens_cannot_be_refined(model, image):
    tokens = encode_tokens(model, image, 2.0, ONE_BY_ONE)
    with pytest.raises(InputError, match=r"no hidden state.*Run VARSR Next-Scale Sample"):
        refine_tokens(model, tokens, RefineSettings(), 0, REFUSES)


def test_stopped_tokens_cannot_be_refined(model, prefix):
    tokens = sample_tokens(model, prefix, SETTINGS, 0, ONE_BY_ONE, stop_scale=3)
    with pytest.raises(InputError, match=r"3 of 4 scales.*Run VARSR Next-Scale Sample"):
        refine_tokens(model, tokens, RefineSettings(), 0, REFUSES)


def test_unguided_tokens_cannot_be_refined_with_guidance(model, prefix):
    tokens = sample_tokens(model, prefix, SampleSettings(guidance=0), 0, ONE_BY_ONE)
    with pytest.raises(InputError, match="guidance 6 needs tokens that were sampled with guidance"):
        refine_tokens(model, tokens, RefineSettings(), 0, REFUSES)


def test_refused_stages_leave_the_next_run_right(model, prefix, tokens):
    with pytest.raises(InputError):
        sample_tokens(model, prefix, SETTINGS, 0, REFUSES, stop_scale=9)
    again = sample_tokens(model, prefix, SETTINGS, 0, ONE_BY_ONE)
    assert torch.equal(again.hidden, tokens.hidden)


def test_restorer_reports_the_sizes_of_its_model(model):
    restorer = VARSRRestorer(model)
    assert (restorer.tile_size, restorer.align, restorer.steps) == (64, 16, 5)
    assert replace(restorer, refining=RefineSettings(strength=0)).steps == 4
