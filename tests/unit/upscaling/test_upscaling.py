"""A picture in, a picture out, in one call and stage by stage."""

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.upscaling import (
    FOUR_TILES,
    IMAGES,
    ONE_BY_ONE,
    SEED,
    assert_equal_but_for_rounding,
    at_once,
    every_mode,
    in_mode,
    plainly_enlarged,
    restorer,
    staged,
    unbroken,
)
from varsr_core.images.alpha import enlarge_alpha
from varsr_core.images.color_fix import COLOR_MODES
from varsr_core.images.output_size import OutputSize
from varsr_core.images.resize import resize
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import (
    decode_scales,
    decode_tokens,
    encode_prefix,
    refine_tokens,
    sample_tokens,
)

# In stages


@each(
    ("case", "top_k"),
    [
        ("one tile", 20),
        ("several tiles", 1),
        ("several tiles", 20),
        ("several pictures", 1),
        ("with alpha", 20),
        ("grey", 20),
    ],
)
@every_mode
def test_stages_give_the_bits_of_upscale(case, top_k, mode):
    how, settings = restorer(SampleSettings(top_k=top_k)), in_mode(mode)
    found = staged(IMAGES[case], 2.0, how, settings)
    assert torch.equal(found, upscale(IMAGES[case], 2.0, how, seed=SEED, settings=settings))


@every_mode
def test_stages_give_the_picture_of_upscale_with_several_tiles_at_once(mode):
    """Its bits where the blocks are the same; phases start tiles that were encoded together."""
    how, settings = restorer(SampleSettings(top_k=20)), in_mode(mode)
    found = staged(FOUR_TILES, 2.0, how, settings, at_once(3))
    expected = upscale(FOUR_TILES, 2.0, how, seed=SEED, settings=settings, execution=at_once(3))
    assert_equal_but_for_rounding(found, expected)
    assert mode == "phased" or torch.equal(found, expected)


@each("overlap", [0.0, 0.5])
def test_stages_give_the_bits_of_upscale_whatever_the_overlap(overlap):
    settings = UpscaleSettings(Tiling(overlap=overlap))
    found = staged(FOUR_TILES, 2.0, restorer(), settings)
    assert torch.equal(found, upscale(FOUR_TILES, 2.0, restorer(), seed=SEED, settings=settings))


@every_mode
def test_stages_without_refiner_give_the_bits_of_upscale(mode):
    how, settings = restorer(refining=RefineSettings(strength=0.0)), in_mode(mode)
    found = staged(FOUR_TILES, 2.0, how, settings)
    assert torch.equal(found, upscale(FOUR_TILES, 2.0, how, seed=SEED, settings=settings))


@pytest.mark.parametrize("color_fix", [mode for mode in COLOR_MODES if mode != "adain"])
def test_stages_give_the_bits_of_upscale_whatever_the_colours(color_fix):
    image, settings = IMAGES["one tile"], UpscaleSettings(color_fix=color_fix)
    expected = upscale(image, 2.0, restorer(), seed=SEED, settings=settings)
    assert torch.equal(staged(image, 2.0, restorer(), settings), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stages_give_the_bits_of_upscale_in_half_precision(dtype):
    how = restorer(dtype=dtype)
    for image in (IMAGES["one tile"], FOUR_TILES):
        assert torch.equal(staged(image, 2.0, how), upscale(image, 2.0, how, seed=SEED))


def test_modes_give_different_pictures_of_several_tiles_and_the_same_of_one():
    phased, lock_step, independent = (unbroken("several tiles", mode) for mode in TILING_MODES)
    assert not torch.equal(phased, lock_step)
    assert not torch.equal(phased, independent)
    assert not torch.equal(lock_step, independent)
    first, *others = (unbroken("one tile", mode) for mode in TILING_MODES)
    assert all(torch.equal(first, other) for other in others)


# Sizes


@pytest.mark.parametrize("case", ["one tile", "several pictures", "with alpha", "grey"])
@each("scale", [1.0, 2.5])
def test_output_has_the_size_of_the_input_times_scale(case, scale):
    image = IMAGES[case]
    found = upscale(image, scale, restorer())
    images, channels, height, width = image.shape
    assert found.shape == (images, max(channels, 3), round(height * scale), round(width * scale))
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1


@each(
    ("size", "mode"),
    [
        ((1, 1), "phased"),
        ((1, 50), "phased"),
        ((50, 1), "independent"),
        ((7, 130), "phased"),
        ((8, 8), "phased"),
        ((33, 31), "phased"),
        ((33, 31), "lock-step"),
        ((33, 31), "independent"),
    ],
)
def test_odd_sizes_are_upscaled(size, mode):
    image = models.picture(*size, channels=4)
    how = restorer(refining=RefineSettings(strength=0))
    found = upscale(image, 3.0, how, settings=in_mode(mode))
    assert found.shape == (1, 4, 3 * size[0], 3 * size[1])
    assert torch.isfinite(found).all()


@each(
    ("mode", "value", "expected"),
    [
        ("scale", 1.5, (50, 47)),
        ("longer side", 70, (70, 66)),
        ("shorter side", 70, (75, 70)),
        ("megapixels", 0.0046, (70, 66)),
    ],
)
def test_output_has_the_size_that_is_asked_for(mode, value, expected):
    size = OutputSize(mode, value)
    image = models.picture(33, 31, channels=4)
    found = upscale(image, size, restorer(), seed=SEED)
    assert found.shape[2:] == expected
    assert torch.equal(staged(image, size, restorer()), found)


def test_the_same_size_gives_the_same_picture_however_it_is_asked_for():
    image = IMAGES["one tile"]
    wishes = (2.0, OutputSize("scale", 2), OutputSize("longer side", 64))
    first, *others = (upscale(image, wish, restorer()) for wish in wishes)
    assert all(torch.equal(first, other) for other in others)


# Channels and colours


def test_alpha_is_enlarged_by_its_own_rule_and_not_restored():
    image = IMAGES["with alpha"]
    found = upscale(image, 2.0, restorer())
    assert torch.equal(found[:, 3:], enlarge_alpha(image[:, 3:], 60, 100))


def test_pictures_of_a_batch_keep_their_own_alpha():
    image = models.picture(20, 30, channels=4, images=3)
    found = upscale(image, 2.0, restorer(), execution=at_once(2))
    assert torch.equal(found[:, 3:], enlarge_alpha(image[:, 3:], 40, 60))


def test_alpha_that_hides_nothing_leaves_the_colours_as_they_are():
    image = IMAGES["with alpha"].clone()
    image[:, 3] = 1
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


@pytest.mark.parametrize("color_fix", ["adain", "wavelet"])
def test_colour_strength_goes_from_the_models_colours_to_the_inputs(color_fix):
    image = IMAGES["one tile"]
    own, half, full = (
        upscale(image, 2.0, restorer(), settings=UpscaleSettings(color_fix=mode, color_strength=s))
        for mode, s in (("none", 1.0), (color_fix, 0.5), (color_fix, 1.0))
    )
    none = UpscaleSettings(color_fix=color_fix, color_strength=0.0)
    assert torch.equal(upscale(image, 2.0, restorer(), settings=none), own)
    assert (full - own).abs().max() > 0.05
    inside = (full > 0) & (full < 1)  # elsewhere the correction was clamped
    torch.testing.assert_close(half[inside], ((own + full) / 2)[inside], atol=1e-5, rtol=0)


# Seeds, batches, precision


@each("top_k", [1, 20])
@every_mode
def test_same_seed_gives_the_same_bits(top_k, mode):
    how, settings = restorer(SampleSettings(top_k=top_k)), in_mode(mode)
    again = upscale(FOUR_TILES, 2.0, how, seed=0, settings=settings)
    assert torch.equal(unbroken("several tiles", mode, top_k=top_k), again)


@each("top_k", [1, 20])
@every_mode
def test_another_seed_gives_another_picture(top_k, mode):
    how, settings = restorer(SampleSettings(top_k=top_k)), in_mode(mode)
    other = upscale(FOUR_TILES, 2.0, how, seed=8, settings=settings)
    assert not torch.equal(unbroken("several tiles", mode, top_k=top_k), other)


@every_mode
def test_pictures_of_a_batch_equal_pictures_alone(mode):
    """To the bit when they are worked on one by one, as on the CPU."""
    image, settings = IMAGES["four pictures"], in_mode(mode)
    alone = [upscale(one[None], 2.0, restorer(), settings=settings) for one in image]
    assert torch.equal(unbroken("four pictures", mode), torch.cat(alone))
    assert_equal_but_for_rounding(unbroken("four pictures", mode, tiles=6), torch.cat(alone))


@every_mode
def test_equal_pictures_of_a_batch_are_restored_equally(mode):
    """Still parts of a clip stay still."""
    image = FOUR_TILES.expand(2, -1, -1, -1)
    found = upscale(image, 2.0, restorer(SampleSettings(top_k=20)), settings=in_mode(mode))
    assert torch.equal(found[0], found[1])


@each("tiles", [2, 3, 100])
@every_mode
def test_picture_does_not_depend_on_how_many_tiles_run_at_once(tiles, mode):
    found = unbroken("several tiles", mode, tiles)
    assert_equal_but_for_rounding(found, unbroken("several tiles", mode))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_give_finite_pictures(dtype):
    for settings in (SampleSettings(), SampleSettings(guidance=0.0, top_k=20)):
        refining = RefineSettings(guidance=settings.guidance)
        found = upscale(FOUR_TILES, 2.0, restorer(settings, refining, dtype))
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


def test_input_picture_and_mask_are_left_alone():
    image, mask = IMAGES["with alpha"].clone(), torch.rand(1, 1, 15, 25)
    before = mask.clone()
    upscale(image, 2.0, restorer(), mask=mask)
    assert torch.equal(image, IMAGES["with alpha"])
    assert torch.equal(mask, before)


@every_mode
def test_pictures_of_the_scales_end_with_the_refined_one(mode):
    how = restorer()
    image = IMAGES["several pictures"]
    prefix = encode_prefix(how.model, image, 2.0, ONE_BY_ONE, Tiling(mode))
    tokens = sample_tokens(how.model, prefix, how.sampling, SEED, ONE_BY_ONE)
    refined = refine_tokens(how.model, tokens, how.refining, SEED, ONE_BY_ONE)
    found = decode_scales(how.model, refined, ONE_BY_ONE)
    assert found.shape == (4 * 2, 3, 60, 100)
    assert torch.equal(found[-2:], decode_tokens(how.model, refined, ONE_BY_ONE))
    stopped = sample_tokens(how.model, prefix, how.sampling, SEED, ONE_BY_ONE, stop_scale=2)
    assert torch.equal(found[2:4], decode_tokens(how.model, stopped, ONE_BY_ONE))


# What is kept of the input, and what the model is given of it


@pytest.mark.parametrize("mode", TILING_MODES)
def test_fidelity_leads_from_the_model_s_picture_to_the_plain_one(mode):
    image = IMAGES["several tiles"]
    plain = plainly_enlarged(image, (image.shape[2] * 2, image.shape[3] * 2))
    pictures = [
        upscale(image, 2.0, restorer(), settings=in_mode(mode, fidelity=share))
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert torch.equal(pictures[0], unbroken("several tiles", mode))
    away = [float((picture - plain).square().mean()) for picture in pictures]
    assert all(later < earlier for earlier, later in zip(away, away[1:], strict=False))
    assert (pictures[-1] - plain).abs().max() < 1 / 255


def test_fidelity_keeps_alpha_and_mask():
    image, mask = IMAGES["with alpha"], torch.zeros(1, 1, 30, 50)
    mask[..., :20] = 1
    size = (60, 100)
    settings = UpscaleSettings(fidelity=0.5, feather=0)
    found = upscale(image, 2.0, restorer(), settings=settings, mask=mask)
    assert torch.equal(found[:, 3:], enlarge_alpha(image[:, 3:], *size))
    assert torch.equal(found[..., 48:], plainly_enlarged(image, size)[..., 48:])


def test_stages_with_fidelity_give_the_bits_of_upscale():
    image, settings = IMAGES["one tile"], UpscaleSettings(fidelity=0.4)
    found = upscale(image, 2.0, restorer(), seed=SEED, settings=settings)
    assert torch.equal(staged(image, 2.0, restorer(), settings), found)


def test_shrinking_first_gives_the_model_less_and_the_output_its_size():
    image = models.picture(40, 60)
    shrunk = resize(image, 20, 30)
    settings = UpscaleSettings(color_fix="none", shrink_first=20 * 30 / 1e6)
    found = upscale(image, 2.0, restorer(), settings=settings)
    assert found.shape[2:] == (80, 120)
    # What the model is given is what it is given of the smaller picture at the same output size.
    wanted = upscale(shrunk, 4.0, restorer(), settings=UpscaleSettings(color_fix="none"))
    assert torch.equal(found, wanted)
    plain = upscale(image, 2.0, restorer(), settings=UpscaleSettings(color_fix="none"))
    for megapixels in (0.0, 40 * 60 / 1e6, 1.0):
        settings = UpscaleSettings(color_fix="none", shrink_first=megapixels)
        assert torch.equal(upscale(image, 2.0, restorer(), settings=settings), plain)


def test_shrinking_first_leaves_what_a_mask_keeps():
    image, mask = models.picture(40, 60), torch.zeros(1, 1, 40, 60)
    mask[..., :20] = 1
    settings = UpscaleSettings(shrink_first=0.0006, feather=0)
    found = upscale(image, 2.0, restorer(), settings=settings, mask=mask)
    assert torch.equal(found[..., 48:], plainly_enlarged(image, (80, 120))[..., 48:])
