"""Pictures that are restored inside a mask only."""

from dataclasses import dataclass, field, replace

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.told import assert_rises_to_its_total
from helpers.upscaling import (
    FOUR_TILES,
    IMAGES,
    ONE_BY_ONE,
    REFINING,
    SEED,
    assert_equal_but_for_rounding,
    at_once,
    every_mode,
    in_mode,
    plainly_enlarged,
    restorer,
    unbroken,
)
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import TILING_MODES
from varsr_core.upscaling import upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.stages import (
    decode_tokens,
    encode_prefix,
    refine_tokens,
    sample_tokens,
)

# Masks


def corner_mask(height, width):
    """1 in the upper left corner of a picture."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., : height // 4, : width // 4] = 1
    return mask


@each(
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


@each("feather", [0, 6])
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


@each("tiles", [1, 3])
@each("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
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
    assert_rises_to_its_total(seen)
    assert {progress.tiles for progress in seen} == {1}


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
