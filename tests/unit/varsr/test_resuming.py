"""Sampling that stops early, and sampling that goes on from tokens."""

from dataclasses import replace

import pytest
import torch

from helpers import models
from helpers.each import each
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import (
    decode_tokens,
    encode_prefix,
    encode_tokens,
    refine_tokens,
    sample_tokens,
)

ONE_BY_ONE = Execution()
SCALES = 4
SETTINGS = {
    "greedy": SampleSettings(),
    "random": SampleSettings(top_k=20),
    "unguided": SampleSettings(guidance=0.0, top_k=20),
    "guided at first": SampleSettings(top_k=20, unguided_scales=2),
    "moved away and smooth": SampleSettings(top_k=20, ssg=0.5, smooth=True),
}


@pytest.fixture(params=SETTINGS)
def settings(request):
    return SETTINGS[request.param]


@pytest.fixture
def model():
    return models.micro_model()


@pytest.fixture
def image():
    """Several tiles."""
    return models.picture(40, 50)


@pytest.fixture(params=TILING_MODES)
def mode(request):
    return request.param


@pytest.fixture
def prefix(model, image, mode):
    return encode_prefix(model, image, 2.0, ONE_BY_ONE, Tiling(mode))


def sample(model, prefix, settings, seed=5, execution=ONE_BY_ONE, **resume):
    return sample_tokens(model, prefix, settings, seed, execution, **resume)


def assert_same_bits(found, expected, scales=SCALES):
    assert found.num_scales == scales
    for scale in range(scales):
        assert torch.equal(found.token_ids[scale], expected.token_ids[scale])
        assert torch.equal(found.latents[scale], expected.latents[scale])
    if scales == SCALES:
        assert torch.equal(found.hidden, expected.hidden)


@each("first", [1, 2, 3])
def test_resuming_from_own_tokens_gives_the_bits_of_the_unbroken_run(
    model, prefix, settings, first
):
    unbroken = sample(model, prefix, settings)
    resumed = sample(model, prefix, settings, tokens=unbroken, first_scale=first)
    assert_same_bits(resumed, unbroken)


@each("stop", [1, 2, 3])
def test_stopping_and_resuming_gives_the_bits_of_the_unbroken_run(model, prefix, settings, stop):
    unbroken = sample(model, prefix, settings)
    stopped = sample(model, prefix, settings, stop_scale=stop)
    assert stopped.hidden is None
    assert_same_bits(stopped, unbroken, stop)
    resumed = sample(model, prefix, settings, tokens=stopped, first_scale=stop)
    assert_same_bits(resumed, unbroken)


def test_resuming_with_several_tiles_at_once_gives_the_bits_of_the_unbroken_run(model, prefix):
    three = Execution(prepare=lambda: 3)
    unbroken = sample(model, prefix, SETTINGS["random"], execution=three)
    resumed = sample(
        model, prefix, SETTINGS["random"], execution=three, tokens=unbroken, first_scale=2
    )
    assert_same_bits(resumed, unbroken)


def test_resuming_scale_by_scale_gives_the_bits_of_the_unbroken_run(model, prefix, settings):
    tokens = None
    for scale in range(SCALES):
        tokens = sample(
            model, prefix, settings, tokens=tokens, first_scale=scale, stop_scale=scale + 1
        )
    assert_same_bits(tokens, sample(model, prefix, settings))


def test_stopping_at_the_last_scale_is_not_stopping(model, prefix, settings):
    unbroken = sample(model, prefix, settings)
    assert_same_bits(sample(model, prefix, settings, stop_scale=SCALES), unbroken)


def test_resumed_tokens_are_refined_as_those_of_the_unbroken_run(model, prefix):
    unbroken = sample(model, prefix, SETTINGS["random"])
    resumed = sample(model, prefix, SETTINGS["random"], tokens=unbroken, first_scale=3)
    refined = [
        refine_tokens(model, tokens, RefineSettings(steps=3), 5, ONE_BY_ONE).refined
        for tokens in (unbroken, resumed)
    ]
    assert torch.equal(*refined)


@each("first", [1, 2, 3])
def test_resuming_from_a_picture_keeps_its_first_tokens(model, image, prefix, first):
    encoded = encode_tokens(model, image, 2.0, ONE_BY_ONE)
    resumed = sample(model, prefix, SETTINGS["greedy"], tokens=encoded, first_scale=first)
    for scale in range(first):
        assert torch.equal(resumed.token_ids[scale], encoded.token_ids[scale])
        assert torch.equal(resumed.latents[scale], encoded.latents[scale])
    assert not torch.equal(resumed.token_ids[-1], encoded.token_ids[-1])
    unbroken = sample(model, prefix, SETTINGS["greedy"])
    assert not torch.equal(resumed.token_ids[-1], unbroken.token_ids[-1])


def test_kept_tokens_come_from_the_tokens_whatever_the_seed(model, prefix):
    first = sample(model, prefix, SETTINGS["random"], seed=1)
    second = sample(model, prefix, SETTINGS["random"], seed=2, tokens=first, first_scale=2)
    assert torch.equal(second.token_ids[1], first.token_ids[1])
    assert not torch.equal(second.token_ids[3], first.token_ids[3])


def test_resuming_starts_from_the_recorded_latent_not_from_the_ids(model):
    """Tiles brought together between scales are no longer the sum of their tokens."""
    one_tile = encode_prefix(model, models.picture(20, 25), 2.0, ONE_BY_ONE)
    tokens = sample(model, one_tile, SETTINGS["greedy"], stop_scale=2)
    blended = replace(tokens, latents=(tokens.latents[0], tokens.latents[1] * 0.5))
    resumed = sample(model, one_tile, SETTINGS["greedy"], tokens=blended, first_scale=2)
    expected = blended.latents[1] + model.quantizer.residual(resumed.token_ids[2], 2)
    torch.testing.assert_close(resumed.latents[2], expected)


def test_tokens_sampled_in_one_mode_can_be_continued_in_another(model, image, prefix):
    """What is kept stays as it is; what is new agrees as the prefix asks."""
    apart = encode_prefix(model, image, 2.0, ONE_BY_ONE, Tiling("independent"))
    tokens = sample(model, apart, SETTINGS["greedy"], stop_scale=2)
    resumed = sample(model, prefix, SETTINGS["greedy"], tokens=tokens, first_scale=2)
    assert all(map(torch.equal, resumed.latents[:2], tokens.latents))
    assert resumed.canvas.mode == prefix.canvas.mode
    sums = resumed.latents[1] + model.quantizer.residual(resumed.token_ids[2], 2)
    together = (resumed.latents[2] - sums).abs().amax(dim=(1, 2, 3)) > 1e-5
    expected = {"phased": [False, True, True, True], "lock-step": [True] * 4}
    assert together.tolist() == expected.get(prefix.canvas.mode, [False] * 4)


def test_stopped_and_encoded_tokens_can_be_decoded(model, image, prefix):
    stopped = sample(model, prefix, SETTINGS["greedy"], stop_scale=2)
    encoded = encode_tokens(model, image, 2.0, ONE_BY_ONE)
    for tokens in (stopped, encoded):
        decoded = decode_tokens(model, tokens, ONE_BY_ONE)
        assert decoded.shape == (1, 3, 80, 100)
        assert torch.isfinite(decoded).all()


def test_encoded_tokens_are_those_of_the_tokenizer(model):
    image = models.picture(64, 64)
    tokens = encode_tokens(model, image, 1.0, ONE_BY_ONE)
    with torch.inference_mode():
        ids, latents, _ = model.quantizer.encode(model.encode_latent(image))
    assert all(map(torch.equal, tokens.token_ids, ids))
    torch.testing.assert_close(tokens.latent, latents[-1], atol=1e-5, rtol=0)
    assert tokens.hidden is None
