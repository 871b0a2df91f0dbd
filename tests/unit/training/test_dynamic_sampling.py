"""Mistakes for the restorer to see, and estimates that hold its hidden states to the latent."""

import pytest
import torch

from helpers.closed_form import drawn
from varsr_core.training.stages.dynamic_sampling import (
    DynamicSampling,
    encode_mistaken,
    near_codes,
)
from varsr_core.training.stages.encoded_target import EncodedTarget, encode_latent
from varsr_core.training.stages.prefix import estimate_error, estimated_latent
from varsr_core.training.stages.restorer import ISRLoss, ISRSettings

CASE = "2 pixels a token"
PAPER = {"loss", "tokens", "diffusion", "accuracy"}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mistaken(share, near=4, seed=0):
    found = drawn(CASE)
    whole = found.held_out[2].whole[:24]
    sampling = DynamicSampling(share, near)
    return found.model, whole, encode_mistaken(found.model, whole, sampling, seeded(seed))


def test_near_codes_are_the_nearest_others():
    quantizer = drawn(CASE).model.quantizer
    codes = quantizer.codebook.weight
    near = near_codes(quantizer, 5)
    for code in range(0, len(codes), 7):
        distances = (codes - codes[code]).square().sum(dim=1)
        assert near[code].tolist() == distances.argsort()[1:6].tolist()


def test_no_share_is_what_the_paper_does():
    model, whole, found = mistaken(0.0)
    wanted = encode_latent(model, whole)
    assert torch.equal(found.token_ids, wanted.token_ids)
    assert torch.equal(found.latents, wanted.latents)


def test_later_tokens_make_up_for_mistakes():
    model, whole, found = mistaken(0.6)
    plain = encode_latent(model, whole)
    first = model.config.schedule.sides[0] ** 2
    assert torch.equal(found.token_ids[:, :first], plain.token_ids[:, :first]), "nothing before it"
    assert (found.token_ids != plain.token_ids).float().mean() > 0.1
    torch.testing.assert_close(found.whole, whole)
    error = (found.latents[:, -1] - whole).square().mean()
    # The tokens to be learned, of the latents given, come close again.
    blind = found.latents[:, -2] - plain.latents[:, -2] + plain.latents[:, -1]
    assert error < 0.9 * (blind - whole).square().mean()


def test_each_picture_draws_its_own_share():
    model, whole, found = mistaken(1.0, near=1)
    plain = encode_latent(model, whole)
    moved = (found.latents[:, 0] != plain.latents[:, 0]).flatten(1).any(dim=1)
    assert 4 < moved.sum() < 20
    _, _, again = mistaken(1.0, near=1)
    assert torch.equal(again.token_ids, found.token_ids)
    _, _, other = mistaken(1.0, near=1, seed=1)
    assert not torch.equal(other.latents, found.latents)


def losses(settings, seed=0):
    found = drawn(CASE)
    module = ISRLoss(found.model, settings=settings)
    lq, classes, target = found.held_out
    few = EncodedTarget(*(part[:8] for part in vars(target).values()))
    return module, module(lq[:8], classes[:8], few, seeded(seed))


def test_without_settings_the_losses_are_the_papers():
    module, plain = losses(None)
    assert plain.keys() == PAPER
    assert module.probe is None
    _, same = losses(ISRSettings())
    assert torch.equal(same["loss"], plain["loss"])


def test_estimates_are_added_with_their_weights():
    _, plain = losses(None)
    module, helped = losses(ISRSettings(prefix=0.5, hidden=2.0))
    wanted = plain["loss"] + 0.5 * helped["prefix"] + 2.0 * helped["hidden"]
    torch.testing.assert_close(helped["loss"], wanted)
    assert helped["hidden"].item() == pytest.approx(1.0), "a probe that says nothing yet"
    found = drawn(CASE)
    lq, _, target = found.held_out
    estimate = estimated_latent(found.model, found.model.encode_prefix(lq[:8]))
    torch.testing.assert_close(helped["prefix"], estimate_error(estimate, target.whole[:8]))
    assert any(part is module.probe for part in module.trained())


def test_probe_reads_the_latent_off_hidden_states():
    found = drawn(CASE)
    module = ISRLoss(found.model, settings=ISRSettings(hidden=1.0))
    lq, classes, target = found.held_out
    optimizer = torch.optim.Adam(module.probe.parameters(), lr=0.02)
    errors = []
    for _ in range(60):
        optimizer.zero_grad()
        error = module(lq, classes, target, seeded())["hidden"]
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.5 * errors[0]


def test_mistakes_reach_the_losses():
    _, plain = losses(None)
    _, taught = losses(ISRSettings(sampling=DynamicSampling(0.8)))
    assert taught["tokens"] != plain["tokens"]
    _, again = losses(ISRSettings(sampling=DynamicSampling(0.8)))
    assert torch.equal(taught["loss"], again["loss"])
