"""The refiner on a tiny model."""

from dataclasses import replace

import pytest
import torch

from helpers import models
from helpers.each import each
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import Tiling
from varsr_core.tiling.noise import TileSeed, derive_seed
from varsr_core.varsr.sampling import RefineSettings, SampleSettings, refine_latent, refiner_noise
from varsr_core.varsr.stages import decode_tokens, encode_prefix, refine_tokens, sample_tokens

ONE_BY_ONE = Execution()


@pytest.fixture
def model():
    return models.micro_model()


@pytest.fixture
def tokens(model):
    """Four pictures of one tile each."""
    prefix = encode_prefix(model, models.picture(30, 24, images=4), 2.0, ONE_BY_ONE)
    return sample_tokens(model, prefix, SampleSettings(), 0, ONE_BY_ONE)


def refine(model, tokens, seed=0, execution=ONE_BY_ONE, **settings):
    settings = {"steps": 4, **settings}
    return refine_tokens(model, tokens, RefineSettings(**settings), seed, execution)


def one_image(tokens, index):
    part = tokens.tiles(slice(index, index + 1))
    return replace(part, canvas=replace(tokens.canvas, images=1))


def residual(tokens):
    return tokens.refined - tokens.latents[-1]


def test_refined_latent_is_the_last_one_and_a_residual(model, tokens):
    refined = refine(model, tokens)
    noise = refiner_noise(model, [TileSeed(0, derive_seed(0, "canvas"))], 4)
    with torch.inference_mode():
        for tile in range(4):
            one = tokens.tiles(slice(tile, tile + 1))
            added = refine_latent(
                model, one.hidden, one.token_ids[-1], noise, RefineSettings(steps=4)
            )
            assert torch.equal(refined.refined[tile : tile + 1], one.latent + added)
            assert added.abs().max() > 0.01
    assert refined.latent is refined.refined
    assert all(map(torch.equal, refined.latents, tokens.latents))


def test_same_seed_gives_the_same_bits_and_another_seed_another_residual(model, tokens):
    first, again, other = (refine(model, tokens, seed).refined for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_strength_0_returns_the_input(model, tokens):
    refined = refine(model, tokens, strength=0.0)
    assert refined.refined is None
    assert torch.equal(refined.latent, tokens.latent)


def test_strength_0_takes_an_earlier_residual_away(model, tokens):
    again = refine(model, refine(model, tokens), strength=0.0)
    assert again.refined is None
    assert torch.equal(again.latent, tokens.latent)


@each("strength", [0.25, 0.5, 2.0])
def test_residual_is_proportional_to_strength(model, tokens, strength):
    full, part = refine(model, tokens), refine(model, tokens, strength=strength)
    torch.testing.assert_close(residual(part), strength * residual(full), atol=1e-5, rtol=0)


def test_refining_again_replaces_the_residual(model, tokens):
    again = refine(model, refine(model, tokens, 1), 2)
    assert torch.equal(again.refined, refine(model, tokens, 2).refined)


def test_refining_leaves_its_argument_alone(model, tokens):
    before = [tensor.clone() for tensor in (*tokens.latents, *tokens.token_ids, tokens.hidden)]
    refine(model, tokens)
    assert tokens.refined is None
    after = (*tokens.latents, *tokens.token_ids, tokens.hidden)
    assert all(map(torch.equal, before, after))


def test_pictures_of_a_batch_equal_pictures_alone_to_the_bit(model, tokens):
    batch = refine(model, tokens).refined
    for index in range(4):
        alone = refine(model, one_image(tokens, index)).refined
        assert torch.equal(batch[index : index + 1], alone)


@each("at_once", [2, 3, 4])
def test_residual_does_not_depend_on_how_many_tiles_run_at_once(model, tokens, at_once):
    single = refine(model, tokens).refined
    blocks = refine(model, tokens, execution=Execution(prepare=lambda: at_once)).refined
    torch.testing.assert_close(blocks, single, atol=1e-4, rtol=0)


def test_every_tile_of_a_batch_gets_its_own_noise(model, tokens):
    """All four tiles hold the same tokens, only their noise differs; each as if alone."""
    settings = RefineSettings(steps=4)
    noise = refiner_noise(model, models.own_seeds(4), settings.steps)
    hidden, ids = tokens.hidden[:1], tokens.token_ids[-1][:1]
    with torch.inference_mode():
        together = refine_latent(
            model, hidden.expand(4, -1, -1, -1), ids.expand(4, -1), noise, settings
        )
        for tile in range(4):
            alone = refine_latent(model, hidden, ids, noise[tile : tile + 1], settings)
            torch.testing.assert_close(together[tile : tile + 1], alone, atol=1e-4, rtol=0)
    assert not torch.allclose(together[0], together[1])


def test_guidance_of_0_uses_the_positive_row_alone(model, tokens):
    positive = replace(tokens, hidden=tokens.hidden[:, :1])
    without_negative = refine(model, positive, guidance=0.0).refined
    assert torch.equal(refine(model, tokens, guidance=0.0).refined, without_negative)


def test_guidance_of_1_still_guides(model, tokens):
    weak, none = (refine(model, tokens, guidance=g).refined for g in (1.0, 0.0))
    assert (weak - none).abs().max() > 1e-3


def test_guidance_of_nearly_0_comes_near_to_none(model, tokens):
    weak, none = (refine(model, tokens, guidance=g).refined for g in (1e-6, 0.0))
    torch.testing.assert_close(weak, none, atol=1e-4, rtol=0)


def test_unguided_tokens_can_be_refined_without_guidance(model):
    prefix = encode_prefix(model, models.picture(30, 24), 2.0, ONE_BY_ONE)
    tokens = sample_tokens(model, prefix, SampleSettings(guidance=0), 0, ONE_BY_ONE)
    assert tokens.hidden.shape[1] == 1
    assert torch.isfinite(refine(model, tokens, guidance=0.0).refined).all()


def test_refined_picture_differs_from_the_unrefined_one(model, tokens):
    plain = decode_tokens(model, tokens, ONE_BY_ONE)
    refined = decode_tokens(model, refine(model, tokens), ONE_BY_ONE)
    assert (plain - refined).abs().max() > 1e-3


def test_noise_of_a_tile_does_not_depend_on_its_neighbours(model):
    seeds = models.own_seeds(2)
    noise = refiner_noise(model, seeds, 4)
    assert noise.shape == (2, 5, 32, 4, 4)
    assert torch.equal(noise[1:], refiner_noise(model, seeds[1:], 4))
    assert not torch.equal(noise[0], noise[1])


def test_noise_is_equal_where_tiles_overlap(model):
    seeds = [TileSeed(0, 5, 0, 0), TileSeed(1, 5, 3, 0), TileSeed(2, 5, 1, 2)]
    first, below, aside = refiner_noise(model, seeds, 4)
    assert torch.equal(first[..., 3:, :], below[..., :1, :])
    assert torch.equal(first[..., 1:, 2:], aside[..., :3, :2])
    assert torch.equal(below[..., :2, 2:], aside[..., 2:, :2])


def test_noise_differs_from_step_to_step(model):
    (noise,) = refiner_noise(model, models.own_seeds(1), 4)
    assert noise.unique().numel() > 0.999 * noise.numel()


@pytest.mark.parametrize(
    ("mode", "changed"),
    [
        ("phased", [[], [0, 3], []]),  # the middle one runs last, and takes over from both others
        ("lock-step", [[3], [0, 3], [0]]),
    ],
)
def test_tiles_are_brought_together_where_they_overlap_and_only_there(model, mode, changed):
    """On a canvas of 64 x 160 three tiles share a column of cells each with the next."""
    prefix = encode_prefix(model, models.picture(16, 40), 4.0, ONE_BY_ONE, Tiling(mode))
    tokens = sample_tokens(model, prefix, SampleSettings(), 0, ONE_BY_ONE)
    apart = replace(tokens, canvas=replace(tokens.canvas, mode="independent"))
    difference = refine(model, tokens).refined - refine(model, apart).refined
    columns = difference.abs().amax(dim=(1, 2)) > 1e-5
    assert [row.nonzero().flatten().tolist() for row in columns] == changed
