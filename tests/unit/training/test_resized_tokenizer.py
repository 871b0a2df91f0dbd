"""A tokenizer of other sizes out of a trained one."""

import copy

import pytest
import torch

from helpers.closed_form import crops, drawn, roomy_sizes
from helpers.deep_sizes import deep_sizes
from helpers.training import decibels
from varsr_core.training.closed_form.resized_tokenizer import (
    find_codes,
    principal_basis,
    resized_tokenizer,
)
from varsr_core.training.stages.prefix import estimated_latent
from varsr_core.training.starting.new_model import config_from_json, new_model

CASE = "2 pixels a token"


def resized(channels, codes):
    """The old model, the new one, pictures it has not seen, and what its tokens leave out."""
    old = drawn(CASE).model
    sizes = roomy_sizes({"latent_channels": channels, "codebook_size": codes})
    new = new_model(config_from_json(sizes), seed=1)
    seen, held_out = crops(old.config.tile_size)
    left = resized_tokenizer(old, new, seen[:96], torch.Generator().manual_seed(0))
    return old, new, held_out[:32], left


def through_tokens(model, pictures):
    with torch.no_grad():
        _, totals, _ = model.quantizer.encode(model.encode_latent(pictures))
        decoded = model.decode(totals[-1])
    return (decoded - pictures).square().mean()


def test_same_channels_decode_as_before():
    old, new, pictures, _ = resized(8, 64)
    assert abs(decibels(new, pictures) - decibels(old, pictures)) < 0.8


def test_fewer_channels_keep_most():
    old, new, pictures, _ = resized(5, 64)
    narrow = decibels(new, pictures)
    assert decibels(old, pictures) - 4 < narrow < decibels(old, pictures)
    drawn_only = new_model(new.config, seed=1)
    assert narrow > decibels(drawn_only, pictures) + 6


def test_more_codes_say_more():
    _, few, pictures, left_by_few = resized(8, 32)
    _, many, _, left_by_many = resized(8, 256)
    assert left_by_many < 0.85 * left_by_few
    assert through_tokens(many, pictures) < through_tokens(few, pictures)


def test_codes_beat_those_that_were_drawn_and_are_used():
    found = drawn(CASE)
    quantizer = copy.deepcopy(found.model.quantizer)
    latent = torch.cat([target.whole for _, _, target in found.samples])
    _, totals, _ = quantizer.encode(latent)
    before = ((totals[-1] - latent).square().mean() / latent.square().mean()).item()
    left = find_codes(quantizer, latent, torch.Generator().manual_seed(0))
    assert left < before
    ids = torch.cat(quantizer.encode(latent)[0], dim=1)
    assert len(ids.unique()) > 0.9 * quantizer.codebook.num_embeddings
    again = copy.deepcopy(found.model.quantizer)
    assert find_codes(again, latent, torch.Generator().manual_seed(0)) == pytest.approx(left)


@pytest.mark.parametrize("deep", [0, 1])
def test_prefix_with_a_deep_part_estimates_the_same_in_the_new_channels(deep):
    """Also where only the new model has one, which says nothing yet."""
    old = new_model(config_from_json(deep_sizes(deep)), seed=0)
    if old.prefix_encoder.deep is not None:
        generator = torch.Generator().manual_seed(1)
        weight = old.prefix_encoder.deep.conv_out.weight
        weight.data = 0.05 * torch.randn(weight.shape, generator=generator)
    sizes = deep_sizes(1)
    sizes["tokenizer"] = {**sizes["tokenizer"], "latent_channels": 3}
    new = new_model(config_from_json(sizes), seed=1)
    pictures = crops(old.config.tile_size)[0][:24]
    resized_tokenizer(old, new, pictures, torch.Generator().manual_seed(0))
    with torch.no_grad():
        basis = principal_basis(old.encode_latent(pictures), 3)
        before, after = (estimated_latent(m, m.encode_prefix(pictures)) for m in (old, new))
    torch.testing.assert_close(after, torch.einsum("nchw,cd->ndhw", before, basis))


def test_prefix_whose_deep_part_has_no_place_is_left_as_drawn():
    """Half of what it says would be worse than nothing."""
    old = new_model(config_from_json(deep_sizes(1)), seed=0)
    new = new_model(config_from_json(deep_sizes(0)), seed=1)
    drawn_weight = new.prefix_encoder.conv_out.weight.clone()
    pictures = crops(old.config.tile_size)[0][:24]
    resized_tokenizer(old, new, pictures, torch.Generator().manual_seed(0))
    assert torch.equal(new.prefix_encoder.conv_out.weight, drawn_weight)
