"""A picture in, a picture out, in one call and stage by stage."""

import models
import pytest
import torch

from varsr_core.canvas import resize
from varsr_core.execution import Execution
from varsr_core.upscale import match_image_colors, upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sample import RefineSettings, SampleSettings
from varsr_core.varsr.stages import (
    decode_scales,
    decode_tokens,
    encode_prefix,
    refine_tokens,
    sample_tokens,
)

SEED = 11
SAMPLING = SampleSettings()
REFINING = RefineSettings(steps=3)
ONE_BY_ONE = Execution()


class CancelledError(Exception):
    pass


def restorer(sampling=SAMPLING, refining=REFINING, dtype=torch.float32):
    return VARSRRestorer(models.micro_model(dtype=dtype), sampling, refining)


def staged(image, scale, how, color_fix="adain", execution=ONE_BY_ONE):
    model = how.model
    prefix = encode_prefix(model, image, scale, execution)
    tokens = sample_tokens(model, prefix, how.sampling, SEED, execution)
    tokens = refine_tokens(model, tokens, how.refining, SEED, execution)
    return match_image_colors(decode_tokens(model, tokens, execution), image, color_fix)


IMAGES = {
    "one tile": models.picture(30, 32),
    "several tiles": models.picture(50, 40),
    "several pictures": models.picture(30, 50, images=2),
    "with alpha": models.picture(30, 50, channels=4),
    "grey": models.picture(50, 30, channels=1),
}


@pytest.mark.parametrize("case", IMAGES)
@pytest.mark.parametrize("top_k", [1, 20])
def test_stages_give_the_bits_of_upscale(case, top_k):
    how = restorer(SampleSettings(top_k=top_k))
    assert torch.equal(staged(IMAGES[case], 2.0, how), upscale(IMAGES[case], 2.0, how, seed=SEED))


def test_stages_without_refiner_give_the_bits_of_upscale():
    how = restorer(refining=RefineSettings(strength=0.0))
    image = IMAGES["one tile"]
    assert torch.equal(staged(image, 2.0, how), upscale(image, 2.0, how, seed=SEED))


@pytest.mark.parametrize("color_fix", ["wavelet", "none"])
def test_stages_give_the_bits_of_upscale_whatever_the_colours(color_fix):
    image = IMAGES["one tile"]
    expected = upscale(image, 2.0, restorer(), seed=SEED, color_fix=color_fix)
    assert torch.equal(staged(image, 2.0, restorer(), color_fix), expected)


@pytest.mark.parametrize("case", IMAGES)
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_output_has_the_size_of_the_input_times_scale(case, scale):
    image = IMAGES[case]
    found = upscale(image, scale, restorer())
    images, channels, height, width = image.shape
    assert found.shape == (images, max(channels, 3), round(height * scale), round(width * scale))
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("size", [(8, 8), (8, 120), (33, 70)])
def test_odd_sizes_are_upscaled(size):
    found = upscale(models.picture(*size), 3.0, restorer(refining=RefineSettings(strength=0)))
    assert found.shape[2:] == (3 * size[0], 3 * size[1])
    assert torch.isfinite(found).all()


def test_alpha_is_enlarged_and_not_restored():
    image = IMAGES["with alpha"]
    found = upscale(image, 2.0, restorer())
    assert torch.equal(found[:, 3:], resize(image, 60, 100)[:, 3:])


def test_alpha_leaves_the_colours_as_they_are():
    image = IMAGES["with alpha"]
    found = upscale(image, 2.0, restorer())
    assert torch.equal(found[:, :3], upscale(image[:, :3], 2.0, restorer()))


def test_grey_is_the_same_as_three_equal_channels():
    image = IMAGES["grey"]
    found = upscale(image, 2.0, restorer())
    assert torch.equal(found, upscale(image.expand(-1, 3, -1, -1), 2.0, restorer()))


def test_restored_picture_has_the_mean_colours_of_its_input():
    image = IMAGES["several tiles"]
    found = upscale(image, 2.0, restorer())
    assert (found.mean((2, 3)) - image.mean((2, 3))).abs().max() < 0.03


@pytest.mark.parametrize("top_k", [1, 20])
def test_same_seed_gives_the_same_bits(top_k):
    how = restorer(SampleSettings(top_k=top_k))
    image = IMAGES["several tiles"]
    assert torch.equal(upscale(image, 2.0, how, seed=7), upscale(image, 2.0, how, seed=7))


@pytest.mark.parametrize("top_k", [1, 20])
def test_another_seed_gives_another_picture(top_k):
    how = restorer(SampleSettings(top_k=top_k))
    image = IMAGES["several tiles"]
    assert not torch.equal(upscale(image, 2.0, how, seed=7), upscale(image, 2.0, how, seed=8))


def test_pictures_of_a_batch_equal_pictures_alone_to_the_bit():
    image = IMAGES["several pictures"]
    both = upscale(image, 2.0, restorer())
    alone = torch.cat([upscale(one[None], 2.0, restorer()) for one in image])
    assert torch.equal(both, alone)


def test_equal_pictures_of_a_batch_are_restored_equally():
    """Still parts of a clip stay still."""
    image = IMAGES["several tiles"].expand(2, -1, -1, -1)
    found = upscale(image, 2.0, restorer(SampleSettings(top_k=20)))
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("at_once", [2, 4, 100])
def test_picture_does_not_depend_on_how_many_tiles_run_at_once(at_once):
    image = IMAGES["several tiles"]
    expected = upscale(image, 2.0, restorer())
    found = upscale(image, 2.0, restorer(), execution=Execution(prepare=lambda: at_once))
    # On the mean: rounding may flip a token, which changes its neighbourhood.
    assert (found - expected).abs().mean() < 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_give_finite_pictures(dtype):
    for settings in (SampleSettings(), SampleSettings(guidance=0.0, top_k=20)):
        refining = RefineSettings(guidance=settings.guidance)
        found = upscale(IMAGES["one tile"], 2.0, restorer(settings, refining, dtype))
        assert torch.isfinite(found).all()
        assert found.std() > 0.01


@pytest.mark.parametrize(
    ("dtype", "of_tokenizer"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)],
)
def test_tokenizer_computes_in_float32_where_float16_would_overflow(dtype, of_tokenizer):
    model = models.micro_model(dtype=dtype)
    parts = (model.encoder, model.decoder, model.pre_quantizer, model.post_quantizer)
    assert {p.dtype for part in parts for p in part.parameters()} == {of_tokenizer}
    assert model.transformer.blocks[0].qkv.weight.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stages_give_the_bits_of_upscale_in_half_precision(dtype):
    how, image = restorer(dtype=dtype), IMAGES["one tile"]
    assert torch.equal(staged(image, 2.0, how), upscale(image, 2.0, how, seed=SEED))


def test_input_picture_is_left_alone():
    image = IMAGES["with alpha"].clone()
    upscale(image, 2.0, restorer())
    assert torch.equal(image, IMAGES["with alpha"])


def test_pictures_of_the_scales_end_with_the_refined_one():
    how = restorer()
    image = IMAGES["several pictures"]
    prefix = encode_prefix(how.model, image, 2.0, ONE_BY_ONE)
    tokens = sample_tokens(how.model, prefix, how.sampling, SEED, ONE_BY_ONE)
    refined = refine_tokens(how.model, tokens, how.refining, SEED, ONE_BY_ONE)
    found = decode_scales(how.model, refined, ONE_BY_ONE)
    assert found.shape == (4 * 2, 3, 60, 100)
    assert torch.equal(found[-2:], decode_tokens(how.model, refined, ONE_BY_ONE))
    stopped = sample_tokens(how.model, prefix, how.sampling, SEED, ONE_BY_ONE, stop_scale=2)
    assert torch.equal(found[2:4], decode_tokens(how.model, stopped, ONE_BY_ONE))


def test_progress_of_an_upscale_rises_to_its_total():
    seen = []
    execution = Execution(on_progress=seen.append)
    upscale(IMAGES["several tiles"], 2.0, restorer(), execution=execution)
    tiles = 2 * 2
    per_tile = 4 + 1 + 1  # scales, refiner, decoder
    assert [progress.done for progress in seen] == list(range(1, tiles * per_tile + 1))
    assert {progress.total for progress in seen} == {tiles * per_tile}
    stages = [progress.stage for progress in seen[:per_tile]]
    assert stages[0] == "scale 1 of 4"
    assert stages[-2:] == ["refiner", "decode"]
    assert all(progress.latent.shape == (1, 32, 4, 4) for progress in seen[: per_tile - 1])


def test_model_is_prepared_once_and_only_for_good_input():
    calls = []
    execution = Execution(prepare=lambda: calls.append(1) or 1)
    with pytest.raises(ValueError, match="2 channels"):
        upscale(torch.zeros(1, 2, 32, 32), 2.0, restorer(), execution=execution)
    assert not calls
    upscale(IMAGES["several tiles"], 2.0, restorer(), execution=execution)
    assert calls == [1]


def test_unknown_colour_mode_is_refused_before_the_work():
    calls = []
    execution = Execution(prepare=lambda: calls.append(1) or 1)
    with pytest.raises(ValueError, match="'histogram' is none of adain, wavelet, none"):
        upscale(IMAGES["one tile"], 2.0, restorer(), color_fix="histogram", execution=execution)
    assert not calls


@pytest.mark.parametrize("cancel_at", [1, 3, 5, 6, 8])
def test_cancelled_run_leaves_the_next_one_right(cancel_at):
    image, how = IMAGES["several tiles"], restorer()
    expected = upscale(image, 2.0, how)

    def cancel(progress):
        if progress.done == cancel_at:
            raise CancelledError

    with pytest.raises(CancelledError):
        upscale(image, 2.0, how, execution=Execution(on_progress=cancel))
    assert torch.equal(upscale(image, 2.0, how), expected)


def test_out_of_memory_in_the_decoder_leaves_the_picture_as_it_is(monkeypatch):
    image, how = IMAGES["several tiles"], restorer()
    expected = upscale(image, 2.0, how)
    whole = how.model.decoder.forward

    def short_of_memory(latent):
        if len(latent) > 1:
            raise torch.OutOfMemoryError("more than one tile")
        return whole(latent)

    monkeypatch.setattr(how.model.decoder, "forward", short_of_memory)
    found = upscale(image, 2.0, how, execution=Execution(prepare=lambda: 4))
    assert torch.equal(found, expected)
