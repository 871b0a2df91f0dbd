import hashlib
import random

import models
import numpy as np
import pytest
import torch

from varsr_core.noise import derive_seed, draw_normal, draw_uniform, tile_seeds
from varsr_core.upscale import upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sample import SampleSettings

LARGEST_SEED = 2**64 - 1


@pytest.mark.parametrize("draw", [draw_normal, draw_uniform])
def test_same_seed_gives_the_same_numbers(draw):
    assert torch.equal(draw((3, 5), [7, 8]), draw((3, 5), [7, 8]))


@pytest.mark.parametrize("draw", [draw_normal, draw_uniform])
def test_numbers_of_a_seed_do_not_depend_on_the_seeds_beside_it(draw):
    assert torch.equal(draw((3, 5), [7, 8, LARGEST_SEED])[2], draw((3, 5), [LARGEST_SEED])[0])


@pytest.mark.parametrize("draw", [draw_normal, draw_uniform])
def test_another_seed_gives_other_numbers(draw):
    first, second = draw((100,), [7, 8])
    assert not torch.equal(first, second)


def test_normal_numbers_have_mean_0_and_deviation_1():
    numbers = draw_normal((100_000,), [3])
    assert numbers.mean().item() == pytest.approx(0, abs=0.02)
    assert numbers.std().item() == pytest.approx(1, abs=0.02)


def test_uniform_numbers_fill_0_to_1_without_1():
    numbers = draw_uniform((100_000,), [3])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.01)


def test_derived_seeds_never_change_between_versions():
    """Seeds are kept in workflows: the text that is hashed is part of the format."""
    digest = hashlib.blake2b(b"5/tile/3", digest_size=8).digest()
    expected = sum(byte << (8 * i) for i, byte in enumerate(digest))
    assert derive_seed(5, "tile", 3) == expected


def test_derived_seeds_of_different_uses_differ():
    uses = [(s, *path) for s in (0, 1, LARGEST_SEED) for path in (("tile", 0), ("tile", 1), ("a",))]
    seeds = {derive_seed(*use) for use in uses}
    assert len(seeds) == len(uses)
    assert all(0 <= seed <= LARGEST_SEED for seed in seeds)


def test_tiles_have_their_own_seeds_and_pictures_of_a_batch_the_same():
    seeds = tile_seeds(5, images=2, tiles_per_image=3)
    assert seeds[:3] == seeds[3:]
    assert len(set(seeds)) == 3


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
