import hashlib
import random

import numpy as np
import pytest
import torch

from helpers import models
from helpers.each import each
from varsr_core.tiling.noise import (
    BLOCK,
    TileSeed,
    derive_seed,
    draw_normal,
    draw_uniform,
    tile_seeds,
)
from varsr_core.upscaling import upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import SampleSettings

LARGEST_SEED = 2**64 - 1


def normal(seeds, channels=3, side=5, use="refiner"):
    return draw_normal(channels, side, [TileSeed(0, seed) for seed in seeds], use)


def uniform(seeds):
    return draw_uniform((3, 5), seeds)


@each("draw", [normal, uniform])
def test_same_seed_gives_the_same_numbers(draw):
    assert torch.equal(draw([7, 8]), draw([7, 8]))


@each("draw", [normal, uniform])
def test_numbers_of_a_seed_do_not_depend_on_the_seeds_beside_it(draw):
    assert torch.equal(draw([7, 8, LARGEST_SEED])[2], draw([LARGEST_SEED])[0])


@each("draw", [normal, uniform])
def test_another_seed_gives_other_numbers(draw):
    first, second = draw([7, 8])
    assert not torch.isclose(first, second).any()


def test_another_use_gives_other_numbers():
    assert not torch.isclose(normal([7]), normal([7], use="sampler")).any()


def test_normal_numbers_have_mean_0_and_deviation_1():
    numbers = normal([3], channels=10, side=100)
    assert numbers.mean().item() == pytest.approx(0, abs=0.02)
    assert numbers.std().item() == pytest.approx(1, abs=0.02)


def test_normal_numbers_repeat_neither_in_channels_nor_in_blocks():
    numbers = normal([3], channels=4, side=5 * BLOCK)
    assert numbers.unique().numel() > 0.999 * numbers.numel()


def test_uniform_numbers_fill_0_to_1_without_1():
    numbers = draw_uniform((100_000,), [3])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.01)


@each("side", [3, BLOCK, BLOCK + 5, 3 * BLOCK])
def test_tiles_are_windows_of_one_canvas_of_normal_numbers(side):
    """So tiles that overlap have equal numbers there, across the blocks it is drawn in."""
    size = 5 * BLOCK
    (canvas,) = draw_normal(2, size, [TileSeed(0, 9)], "refiner")
    corners = [(0, 0), (0, 1), (BLOCK - 1, BLOCK), (BLOCK, 2 * BLOCK - 1), (size - side, 3)]
    seeds = [TileSeed(number, 9, *corner) for number, corner in enumerate(corners)]
    for (top, left), window in zip(corners, draw_normal(2, side, seeds, "refiner"), strict=True):
        assert torch.equal(window, canvas[:, top : top + side, left : left + side])


def test_a_canvas_has_no_end():
    far = TileSeed(0, 9, 10**6 + 3, 10**7 + 5)
    left, right = draw_normal(1, 4, [far, TileSeed(1, 9, far.top, far.left + 3)], "refiner")
    assert torch.equal(left[..., 3], right[..., 0])
    assert not torch.equal(left[..., 0], right[..., 0])


def test_rows_and_columns_of_a_canvas_are_told_apart():
    down, across = (TileSeed(0, 9, *at) for at in ((BLOCK, 0), (0, BLOCK)))
    assert not torch.equal(*draw_normal(1, BLOCK, [down, across], "refiner"))


def test_derived_seeds_never_change_between_versions():
    """Seeds are kept in workflows: the text that is hashed is part of the format."""
    digest = hashlib.blake2b(b"5/tile/3", digest_size=8).digest()
    expected = sum(byte << (8 * i) for i, byte in enumerate(digest))
    assert derive_seed(5, "tile", 3) == expected


def test_normal_numbers_never_change_between_versions():
    """So are the seeds of the blocks, and the order of draws in one."""
    generator = torch.Generator().manual_seed(derive_seed(9, "refiner", 1, 2))
    expected = torch.randn(3, 8, 8, generator=generator)
    (found,) = draw_normal(3, 8, [TileSeed(0, 9, 8, 16)], "refiner")
    assert torch.equal(found, expected)


def test_derived_seeds_of_different_uses_differ():
    uses = [(s, *path) for s in (0, 1, LARGEST_SEED) for path in (("tile", 0), ("tile", 1), ("a",))]
    seeds = {derive_seed(*use) for use in uses}
    assert len(seeds) == len(uses)
    assert all(0 <= seed <= LARGEST_SEED for seed in seeds)


def test_tiles_have_their_own_seeds_and_pictures_of_a_batch_the_same():
    positions = [(0, 0), (0, 12), (24, 0)]
    seeds = tile_seeds(5, 2, positions)
    assert seeds[:3] == seeds[3:]
    assert [(seed.top, seed.left) for seed in seeds[:3]] == positions
    assert [seed.tile for seed in seeds[:3]] == [derive_seed(5, "tile", n) for n in range(3)]
    assert {seed.canvas for seed in seeds} == {derive_seed(5, "canvas")}


def test_a_whole_upscale_leaves_the_global_generators_alone():
    restorer = VARSRRestorer(models.micro_model(), SampleSettings(top_k=20))
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    upscale(models.picture(40, 40), 2.0, restorer)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]


def test_an_upscale_does_not_depend_on_the_global_generator():
    restorer = VARSRRestorer(models.micro_model(), SampleSettings(top_k=20))
    image = models.picture(20, 20)
    results = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            results.append(upscale(image, 2.0, restorer))
    assert torch.equal(*results)


def test_the_largest_seed_gives_a_picture_of_its_own():
    restorer = VARSRRestorer(models.micro_model())
    image = models.picture(20, 20)
    pictures = [upscale(image, 2.0, restorer, seed=seed) for seed in (0, 1, LARGEST_SEED)]
    assert not torch.equal(pictures[0], pictures[2])
    assert not torch.equal(pictures[0], pictures[1])
