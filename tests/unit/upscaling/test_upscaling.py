"""A picture in, a picture out, in one call and stage by stage."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache

import pytest
import torch

from helpers import models
from varsr_core.images.alpha import enlarge_alpha
from varsr_core.images.color_fix import COLOR_MODES
from varsr_core.images.output_size import OutputSize
from varsr_core.images.resize import resize
from varsr_core.runtime.execution import Execution
from varsr_core.tiling import decode as tiled_decode
from varsr_core.tiling.consistency import TILING_MODES, Neighbourhood, Tiling
from varsr_core.upscaling import UpscaleSettings, match_image_colors, upscale
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.quantizer import Quantizer
from varsr_core.varsr.refiner import Refiner
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import (
    decode_scales,
    decode_tokens,
    encode_prefix,
    refine_tokens,
    sample_tokens,
)
from varsr_core.varsr.transformer import Block, Transformer
from varsr_core.varsr.vqvae import Decoder

SEED = 11
SAMPLING = SampleSettings()
REFINING = RefineSettings(steps=2)
ONE_BY_ONE = Execution()
DEFAULTS = UpscaleSettings()
SCALES = 4


class CancelledError(Exception):
    pass


def restorer(sampling=SAMPLING, refining=REFINING, dtype=torch.float32):
    return VARSRRestorer(models.micro_model(dtype=dtype), sampling, refining)


def in_mode(mode, **settings):
    return UpscaleSettings(Tiling(mode), **settings)


def at_once(tiles, **services):
    return Execution(prepare=lambda: tiles, **services)


def staged(image, size, how, settings=DEFAULTS, execution=ONE_BY_ONE):
    model = how.model
    prefix = encode_prefix(model, image, size, execution, settings.tiling)
    tokens = sample_tokens(model, prefix, how.sampling, SEED, execution)
    tokens = refine_tokens(model, tokens, how.refining, SEED, execution)
    decoded = decode_tokens(model, tokens, execution)
    return match_image_colors(decoded, image, settings.color_fix, settings.color_strength)


@lru_cache
def unbroken(case, mode, tiles=1, top_k=1):
    """What nothing interrupted, kept for several tests."""
    how = restorer(SampleSettings(top_k=top_k))
    return upscale(IMAGES[case], 2.0, how, settings=in_mode(mode), execution=at_once(tiles))


def plainly_enlarged(image, size):
    """The picture that a mask keeps, with its alpha."""
    rgb = resize(image[:, :3].expand(-1, 3, -1, -1), *size)
    return rgb if image.shape[1] < 4 else torch.cat((rgb, enlarge_alpha(image[:, 3:], *size)), 1)


def assert_equal_but_for_rounding(found, expected):
    """On the mean: in a few cells the guided refiner with random weights magnifies it."""
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < 1e-4


IMAGES = {
    "one tile": models.picture(30, 32),
    "several tiles": models.picture(50, 40),
    "several pictures": models.picture(30, 50, images=2),
    "with alpha": models.picture(30, 50, channels=4),
    "grey": models.picture(50, 30, channels=1),
    "four pictures": models.picture(50, 30, images=4),
}
FOUR_TILES = IMAGES["several tiles"]
every_mode = pytest.mark.parametrize("mode", TILING_MODES)


# In stages


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("overlap", [0.0, 0.5])
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
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_output_has_the_size_of_the_input_times_scale(case, scale):
    image = IMAGES[case]
    found = upscale(image, scale, restorer())
    images, channels, height, width = image.shape
    assert found.shape == (images, max(channels, 3), round(height * scale), round(width * scale))
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("top_k", [1, 20])
@every_mode
def test_same_seed_gives_the_same_bits(top_k, mode):
    how, settings = restorer(SampleSettings(top_k=top_k)), in_mode(mode)
    again = upscale(FOUR_TILES, 2.0, how, seed=0, settings=settings)
    assert torch.equal(unbroken("several tiles", mode, top_k=top_k), again)


@pytest.mark.parametrize("top_k", [1, 20])
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


@pytest.mark.parametrize("tiles", [2, 3, 100])
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


# Masks


def corner_mask(height, width):
    """1 in the upper left corner of a picture."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., : height // 4, : width // 4] = 1
    return mask


@pytest.mark.parametrize(
    ("case", "feather"),
    [("several tiles", 0), ("several tiles", 16), ("with alpha", 3), ("grey", 0)],
)
@every_mode
def test_outside_the_mask_the_picture_is_only_enlarged(case, feather, mode):
    image = IMAGES[case]
    height, width = image.shape[2:]
    mask = corner_mask(2 * height, 2 * width)
    settings = in_mode(mode, feather=feather)
    found = upscale(image, 2.0, restorer(), settings=settings, mask=mask)
    plain = plainly_enlarged(image, (2 * height, 2 * width))
    outside = (mask == 0).expand_as(plain)
    assert torch.equal(found[outside], plain[outside])
    assert (found - plain)[:, :3].abs().max() > 0.05
    assert torch.equal(found[:, 3:], plain[:, 3:])


@pytest.mark.parametrize("feather", [0, 6])
def test_inside_the_mask_are_the_bits_of_the_unmasked_picture(feather):
    """Where tiles are independent, and colours are not matched over the whole picture."""
    settings = in_mode("independent", feather=feather, color_fix="none")
    mask = torch.zeros(1, 1, 100, 80)
    mask[..., 10:90, 5:50] = 1
    found = upscale(FOUR_TILES, 2.0, restorer(), settings=settings, mask=mask)
    whole = upscale(FOUR_TILES, 2.0, restorer(), settings=settings)
    middle = (..., slice(10 + feather, 90 - feather), slice(5 + feather, 50 - feather))
    assert torch.equal(found[middle], whole[middle])
    assert not torch.equal(found, whole)


@every_mode
def test_a_mask_over_all_of_one_tile_changes_nothing(mode):
    image, settings = IMAGES["one tile"], in_mode(mode)
    found = upscale(image, 2.0, restorer(), settings=settings, mask=torch.ones(1, 1, 60, 64))
    assert torch.equal(found, unbroken("one tile", mode))


@every_mode
def test_tiles_of_a_mask_run_as_without_one_but_are_decoded_apart(mode):
    """What agreeing tiles keep: all of them restored, they have the latents of the whole."""
    how, settings = restorer(), in_mode(mode, color_fix="none")
    found = upscale(FOUR_TILES, 2.0, how, seed=SEED, settings=settings, mask=torch.ones(1, 1, 4, 4))
    prefix = encode_prefix(how.model, FOUR_TILES, 2.0, ONE_BY_ONE, settings.tiling)
    tokens = sample_tokens(how.model, prefix, how.sampling, SEED, ONE_BY_ONE)
    tokens = refine_tokens(how.model, tokens, how.refining, SEED, ONE_BY_ONE)
    apart = replace(tokens, canvas=replace(tokens.canvas, mode="independent"))
    assert torch.equal(found, decode_tokens(how.model, apart, ONE_BY_ONE))


def test_a_tile_whose_neighbours_the_mask_leaves_out_runs_alone_in_every_mode():
    """The last of four tiles, which otherwise takes over from the others."""
    mask = torch.zeros(1, 1, 100, 80)
    mask[..., 64:, 64:] = 1
    phased, lock_step, independent = (
        upscale(FOUR_TILES, 2.0, restorer(), settings=in_mode(mode, feather=0), mask=mask)
        for mode in TILING_MODES
    )
    assert torch.equal(phased, independent)
    assert_equal_but_for_rounding(lock_step, independent)  # it is weighted, and divided again
    plain = plainly_enlarged(FOUR_TILES, (100, 80))
    assert (independent - plain)[..., 64:, 64:].abs().mean() > 0.01


def test_pictures_of_a_batch_have_their_own_masks_or_share_one():
    image = models.picture(30, 50, images=3)
    masks = torch.zeros(3, 1, 30, 50)
    masks[0, :, :, :10] = masks[1, :, 20:, 40:] = 1
    found = upscale(image, 2.0, restorer(), mask=masks)
    shared = upscale(image, 2.0, restorer(), mask=masks[:1])
    for index in range(3):
        alone = image[index : index + 1]
        own = upscale(alone, 2.0, restorer(), mask=masks[index : index + 1])
        assert torch.equal(found[index : index + 1], own)
        first = upscale(alone, 2.0, restorer(), mask=masks[:1])
        assert torch.equal(shared[index : index + 1], first)


@dataclass(frozen=True)
class SpyRestorer(VARSRRestorer):
    """Notes where the tiles lie that it starts, and how many tiles each step had."""

    started: list = field(default_factory=list)
    stepped: list = field(default_factory=list)

    def start(self, lq, seeds):
        self.started.extend((seed.top, seed.left) for seed in seeds)
        return super().start(lq, seeds)

    def step(self, state, k):
        super().step(state, k)
        self.stepped.append(state.tiles)


@pytest.mark.parametrize("tiles", [1, 3])
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
@every_mode
def test_tiles_that_the_mask_does_not_touch_are_not_run(corner, mode, tiles):
    spy = SpyRestorer(models.micro_model(), refining=REFINING)
    mask = torch.zeros(1, 1, 100, 80)
    mask[(..., corner[0] * 99, corner[1] * 79)] = 1
    seen, settings = [], in_mode(mode, feather=0)
    execution = at_once(tiles, on_progress=seen.append)
    upscale(FOUR_TILES, 2.0, spy, settings=settings, mask=mask, execution=execution)
    assert spy.started == [(corner[0] * 3, corner[1])]  # in cells: rows at 0 and 48, columns at 16
    assert spy.stepped == [1] * 5
    assert seen[0].stage == "tiles outside the mask"
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (18, 24, 24)


@every_mode
def test_an_empty_mask_runs_nothing(mode):
    spy, image = SpyRestorer(models.micro_model()), IMAGES["with alpha"]
    found = upscale(image, 2.0, spy, settings=in_mode(mode), mask=torch.zeros(1, 1, 8, 8))
    assert torch.equal(found, plainly_enlarged(image, (60, 100)))
    assert not spy.started


@pytest.mark.parametrize("mask", [torch.full((1, 1, 4, 4), 2.0), torch.ones(2, 1, 4, 4)])
def test_a_bad_mask_is_refused_before_the_work(mask):
    calls = []
    execution = Execution(prepare=lambda: calls.append(1) or 1)
    with pytest.raises(ValueError, match="mask "):
        upscale(FOUR_TILES, 2.0, restorer(), mask=mask, execution=execution)
    assert not calls


# Progress, cancelling, memory


@pytest.mark.parametrize(("mode", "pieces"), [("phased", 1), ("independent", 4)])
def test_progress_of_an_upscale_rises_to_its_total(mode, pieces):
    """Tiles that agree are decoded as one canvas, in pieces; here it is small enough for one."""
    seen = []
    execution = Execution(on_progress=seen.append)
    upscale(FOUR_TILES, 2.0, restorer(), settings=in_mode(mode), execution=execution)
    per_tile = SCALES + 1  # the refiner
    total = 4 * per_tile + pieces
    assert [progress.done for progress in seen] == list(range(1, total + 1))
    assert {progress.total for progress in seen} == {total}
    scales = [f"scale {k} of 4" for k in range(1, 5)]
    stages = [*([*scales, "refiner"] * 4), *["decode"] * pieces]
    assert [progress.stage for progress in seen] == stages
    steps = [*([*range(per_tile)] * 4), *[None] * pieces]
    assert [progress.step for progress in seen] == steps
    assert all(progress.picture is None for progress in seen)


@pytest.mark.parametrize(("case", "tiles"), [("several tiles", 3), ("four pictures", 5)])
@every_mode
def test_progress_ends_at_its_total(case, tiles, mode):
    seen = []
    execution = at_once(tiles, on_progress=seen.append)
    upscale(IMAGES[case], 2.0, restorer(), settings=in_mode(mode), execution=execution)
    done = [progress.done for progress in seen]
    assert done == sorted(set(done))
    assert done[-1] == seen[-1].total


def test_model_is_prepared_once_and_only_for_good_input():
    calls = []
    execution = Execution(prepare=lambda: calls.append(1) or 1)
    with pytest.raises(ValueError, match="2 channels"):
        upscale(torch.zeros(1, 2, 32, 32), 2.0, restorer(), execution=execution)
    with pytest.raises(ValueError, match="limit"):
        upscale(FOUR_TILES, 1e4, restorer(), execution=execution)
    assert not calls
    upscale(models.picture(30, 50, images=3), 2.0, restorer(), execution=execution)
    assert calls == [1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"color_fix": "histogram"}, "'histogram' is none of adain, wavelet, lab, none"),
        ({"color_strength": float("nan")}, "color_strength is nan"),
        ({"color_strength": 1.5}, "color_strength is 1.5; 0 to 1"),
        ({"feather": -1}, "feather is -1; 0 pixels or more"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        UpscaleSettings(**wrong)


@pytest.mark.parametrize("cancel_at", [1, 3, 5, 6, 21])
@every_mode
def test_cancelled_run_leaves_the_next_one_right(cancel_at, mode):
    how, settings = restorer(), in_mode(mode)

    def cancel(progress):
        if progress.done == cancel_at:
            raise CancelledError

    with pytest.raises(CancelledError):
        upscale(FOUR_TILES, 2.0, how, settings=settings, execution=Execution(on_progress=cancel))
    again = upscale(FOUR_TILES, 2.0, how, settings=settings)
    assert torch.equal(again, unbroken("several tiles", mode))


@contextmanager
def short_of_memory(monkeypatch, owner, name, call, after=False):
    """The `call`-th call of a method runs out of memory, at its begin or when it has done its work.

    owner: a class; yields a list that gets an entry when it happened
    """
    whole, calls, failed = getattr(owner, name), [], []

    def once(self, *args, **kwargs):
        calls.append(1)
        fails = len(calls) == call
        if fails and not after:
            failed.append(call)
            raise torch.OutOfMemoryError("before")
        result = whole(self, *args, **kwargs)
        if fails:
            failed.append(call)
            raise torch.OutOfMemoryError("after")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, once)
        yield failed


BLOCKS = 2  # of the transformer; its second one fails when the first has filled the cache
FAILURES = {
    "prefix": (VARSR, "encode_prefix", 1),
    "begin of scale 1": (Transformer, "forward", 1),
    **{f"middle of scale {k}": (Block, "forward", BLOCKS * k) for k in (1, 2, 3, 4)},
    **{f"end of scale {k}": (Quantizer, "residual", k) for k in (1, 4)},
    "refiner": (Refiner, "forward", 2),
}


def assert_survives(monkeypatch, failure, mode, case="several tiles", tiles=4, **options):
    """The picture of the uninterrupted run, several tiles at once, and progress to its total.

    Not its bits, unless blocks of tiles were the same in both: with fewer rows, matrices are
    multiplied in another order.
    """
    same_bits = options.pop("same_bits", False)
    how, seen = restorer(SampleSettings(top_k=20)), []
    expected = unbroken(case, mode, tiles // 2 if same_bits else tiles, top_k=20)
    with short_of_memory(monkeypatch, *failure, **options) as failed:
        execution = at_once(tiles, on_progress=seen.append)
        found = upscale(IMAGES[case], 2.0, how, settings=in_mode(mode), execution=execution)
    assert failed
    assert_equal_but_for_rounding(found, expected)
    assert not same_bits or torch.equal(found, expected)
    done = [progress.done for progress in seen]
    assert done == sorted(set(done))
    assert done[-1] == seen[-1].total


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("mode", ["lock-step", "independent"])
def test_running_out_of_memory_in_any_step_leaves_the_picture_as_it_is(monkeypatch, failure, mode):
    assert_survives(monkeypatch, FAILURES[failure], mode)


@pytest.mark.parametrize("failure", FAILURES)
def test_running_out_of_memory_in_a_phase_leaves_the_picture_as_it_is(monkeypatch, failure):
    """Of four pictures, since the two tiles of one overlap and run after one another."""
    assert_survives(monkeypatch, FAILURES[failure], "phased", "four pictures", tiles=8)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failure", ["prefix", "begin of scale 1"])
@pytest.mark.parametrize("mode", ["lock-step", "independent"])
def test_running_out_of_memory_at_first_gives_the_bits_of_smaller_blocks(
    monkeypatch, failure, mode, after
):
    assert_survives(monkeypatch, FAILURES[failure], mode, after=after, same_bits=True)


@pytest.mark.parametrize("call", [1, 3, 6])
def test_running_out_of_memory_while_tiles_are_brought_together(monkeypatch, call):
    """The step itself is done then, and must be forgotten."""
    assert_survives(monkeypatch, (Neighbourhood, "take_over", call), "phased", "several pictures")


@pytest.mark.parametrize("tiles", [2, 4])
def test_running_out_of_memory_in_the_decoder_leaves_tiles_as_they_are(monkeypatch, tiles):
    how, settings = restorer(), in_mode("independent")
    whole = Decoder.forward

    def short(self, latent):
        if len(latent) > 1:
            raise torch.OutOfMemoryError("more than one tile")
        return whole(self, latent)

    expected = upscale(FOUR_TILES, 2.0, how, settings=settings, execution=at_once(tiles))
    monkeypatch.setattr(Decoder, "forward", short)
    found = upscale(FOUR_TILES, 2.0, how, settings=settings, execution=at_once(tiles))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


LONG = models.picture(8, 128)  # four times as large, two pieces of a canvas


@pytest.mark.parametrize("call", [1, 2])
def test_running_out_of_memory_in_the_decoder_leaves_a_canvas_as_it_is(monkeypatch, call):
    """The first call measures, on samples; the second decodes."""
    monkeypatch.setattr(tiled_decode, "MEASURED_PIXELS", 0)
    how = restorer(refining=RefineSettings(strength=0))
    expected = upscale(LONG, 4.0, how, execution=at_once(4))
    with short_of_memory(monkeypatch, Decoder, "fine", call) as failed:
        found = upscale(LONG, 4.0, how, execution=at_once(4))
    assert failed
    assert_equal_but_for_rounding(found, expected)


def test_running_out_of_memory_never_makes_blocks_larger(monkeypatch):
    how = restorer(refining=RefineSettings(strength=0))
    sizes, whole = [], Decoder.fine

    def short(self, features, *args):
        sizes.append(len(features))
        if len(sizes) == 1:
            raise torch.OutOfMemoryError("while measuring")
        return whole(self, features, *args)

    monkeypatch.setattr(Decoder, "fine", short)
    upscale(LONG, 4.0, how, execution=at_once(1))
    assert set(sizes[1:]) == {1}


@every_mode
def test_a_single_tile_that_does_not_fit_is_an_error_that_tells_what_to_do(monkeypatch, mode):
    def short(self, *args, **kwargs):
        raise torch.OutOfMemoryError("not a byte")

    monkeypatch.setattr(Refiner, "forward", short)
    with pytest.raises(torch.OutOfMemoryError, match=r"single tile.*lower precision.*not a byte"):
        upscale(FOUR_TILES, 2.0, restorer(), settings=in_mode(mode), execution=at_once(4))
