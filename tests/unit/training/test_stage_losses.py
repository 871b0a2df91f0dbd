"""What the stages of prefix encoder and decoder are trained on."""

import pytest
import torch

from helpers import models
from helpers.closed_form import batch_of, drawn
from helpers.each import each
from varsr_core.training.closed_form.prefix import prefix_start
from varsr_core.training.stages import decoder as decoder_stage
from varsr_core.training.stages.decoder import DecoderLoss, DecoderSettings, PrefixDecoderLoss
from varsr_core.training.stages.encoded_target import encode_target
from varsr_core.training.stages.prefix import PrefixLoss, estimated_latent
from varsr_core.training.stages.visible_target import VisibleTarget
from varsr_core.varsr.refiner import RESIDUAL_SCALE
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

CASE = "2 pixels a token"


def descend(module, batch, steps, rate):
    """Losses of plain training on one batch."""
    module.model.requires_grad_(False)
    parameters = [p.requires_grad_(True) for part in module.trained() for p in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    found = []
    for number in range(steps):
        optimizer.zero_grad()
        loss = module(*batch(number))["loss"]
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_prefix_stage_sees_more_than_the_best_linear_estimate():
    found = drawn(CASE)
    prefix_start(found.model, found.samples)
    module = PrefixLoss(found.model)
    held_out = found.held_out

    def batch(number):
        lq, _, target = found.samples[number % len(found.samples)]
        return lq, target.latents[:, -2] + target.rest

    def error():
        lq, _, target = held_out
        with torch.no_grad():
            return module(lq, target.latents[:, -2] + target.rest)["loss"].item()

    solved_for = error()
    assert solved_for < 0.2, "of the latent's own mean square"
    descend(module, batch, 120, 2e-3)
    assert error() < 0.9 * solved_for


def test_prefix_loss_is_a_share_of_the_latents_own_size():
    found = drawn(CASE)
    for parameter in found.model.prefix_encoder.conv_out.parameters():
        parameter.data.zero_()
    loss = PrefixLoss(found.model)(found.held_out[0], found.model.encode_latent(found.pictures))
    assert loss["loss"].item() == pytest.approx(1)


def decoder_loss(found, **given):
    """Of drawn weights, and what it decodes; with classes that matter to guidance."""
    table = found.model.transformer.head_modulation.weight
    table.data = torch.randn(table.shape, generator=torch.Generator().manual_seed(0))
    module, latents = DecoderLoss(found.model, DecoderSettings(**given)), []
    decode = found.model.decode_unclamped
    found.model.decode_unclamped = lambda latent: latents.append(latent) or decode(latent)
    return module, latents


@torch.no_grad()
def unrefined(model, lq, guidance):
    restorer = VARSRRestorer(model, SampleSettings(guidance=guidance), RefineSettings(strength=0.0))
    state = restorer.start(lq, models.own_seeds(len(lq)))
    for k in range(restorer.steps):
        restorer.step(state, k)
    return state.latent


@pytest.mark.parametrize("guidance", [0.0, 3.0])
def test_decoder_is_shown_what_the_restorer_makes_at_the_guidance(guidance, monkeypatch):
    found, made = drawn(CASE), []
    monkeypatch.setattr(
        decoder_stage,
        "VARSRRestorer",
        lambda *given: made.append(VARSRRestorer(*given)) or made[-1],
    )
    module, latents = decoder_loss(found, guidance=guidance, own_share=0.0)
    lq, target, generator = batch_of(found, 8)
    for _ in range(2):
        module(lq, target, generator)
    wanted, other = (unrefined(found.model, lq, g) for g in (guidance, 3.0 - guidance))
    refined = [latent - wanted for latent in latents]
    assert all(residual.abs().max() < 1.01 * RESIDUAL_SCALE for residual in refined)
    assert (latents[0] - other).abs().max() > 1.2 * RESIDUAL_SCALE
    apart = [(refined[0] - refined[1]), (refined[0][1:] - refined[0][:-1])]
    assert all(part.abs().mean() > 0.1 for part in apart), "noise differs by step and by picture"
    assert made[0].refining.guidance == guidance, "a new refiner's output does not tell"


def test_some_pictures_are_decoded_from_their_own_latent():
    found = drawn(CASE)
    module, latents = decoder_loss(found, own_share=0.5)
    kinds = set()
    with torch.no_grad():
        own = found.model.encode_latent(found.pictures[:4])
        quantized = found.model.quantizer.encode(own)[1][-1]
        for seed in range(3):
            module(*batch_of(found, 8, seed))
            same = torch.stack(((latents[-1][:4] - own), (latents[-1][:4] - quantized)))
            same = same.abs().amax(dim=(2, 3, 4)) < 1e-4
            assert (same.sum(dim=0) == 1).all()
            kinds |= set(same.float().argmax(dim=0).tolist())
    assert kinds == {0, 1}, "quantized and not"


@each("own_share", [0.0, 0.25, 1.0])
@each("count", [1, 3])
def test_decoder_stage_takes_any_batch_in_half_precision(own_share, count):
    found = drawn(CASE)
    module, latents = decoder_loss(found, own_share=own_share)
    with torch.autocast("cpu", torch.bfloat16):
        loss = module(*batch_of(found, count))["loss"]
    assert loss.isfinite()
    assert latents[0].shape == (count, 8, 4, 4)
    assert latents[0].dtype == torch.float32, "codes are found and summed up in it"


def test_decoder_learns_what_the_restorers_latents_should_look_like():
    found = drawn(CASE)
    module, _ = decoder_loss(found)
    seen = descend(module, lambda number: batch_of(found, 16, number), 25, 3e-3)
    assert sum(seen[-5:]) < 0.8 * sum(seen[:5])


def test_losses_of_pictures_add_up():
    found = drawn(CASE)
    module, _ = decoder_loss(found, perceptual=3.0)
    losses = module(*batch_of(found, 4))
    assert losses["loss"] == losses["pixels"] + 3 * losses["perceptual"]


def test_sight_looks_at_the_decoded_estimate_and_holds_it_to_the_latent():
    found = drawn(CASE)
    prefix_start(found.model, found.samples)
    module, latents = PrefixDecoderLoss(found.model, DecoderSettings(own_share=0.25)), []
    decode = found.model.decode_unclamped
    found.model.decode_unclamped = lambda latent: latents.append(latent) or decode(latent)
    lq, target, generator = batch_of(found, 8)
    losses = module(lq, target, generator)
    estimate = estimated_latent(found.model, found.model.encode_prefix(lq[2:]))
    torch.testing.assert_close(latents[0][2:], estimate)
    wanted = found.model.encode_latent(target[2:])
    error = (estimate - wanted).square().mean() / wanted.square().mean()
    torch.testing.assert_close(losses["error"], error)
    rest = losses["pixels"] + losses["perceptual"]
    torch.testing.assert_close(losses["loss"], rest + decoder_stage.ESTIMATE_WEIGHT * error)


def test_sight_teaches_prefix_and_decoder_to_show_more():
    found = drawn(CASE)
    prefix_start(found.model, found.samples)
    module = PrefixDecoderLoss(found.model, DecoderSettings())
    shown = descend(module, lambda number: batch_of(found, 16, number), 40, 2e-3)
    assert sum(shown[-5:]) < 0.9 * sum(shown[:5])


def test_sight_and_decoder_take_batches_of_own_latents_alone():
    found = drawn(CASE)
    losses = PrefixDecoderLoss(found.model, DecoderSettings(own_share=1.0))(*batch_of(found, 4))
    assert "error" not in losses


@each("unseen", [0.0, 0.25, 1.0])
def test_good_targets_keep_a_share_of_what_the_prefix_does_not_tell(unseen):
    found = drawn(CASE)
    prefix_start(found.model, found.samples)
    lq, target, _ = batch_of(found, 6)
    classes = torch.tensor([0, 1] * 3)
    encode = VisibleTarget(found.model, unseen)
    estimate = estimated_latent(found.model, found.model.encode_prefix(lq)).detach()
    for parameter in found.model.prefix_encoder.parameters():
        parameter.data.zero_()  # trained on, it changes; targets do not
    encoded, plain = encode(lq, target, classes), encode_target(found.model, target)
    whole = encoded.latents[:, -2] + encoded.rest
    latent = found.model.encode_latent(target)
    torch.testing.assert_close(whole[1::2], latent[1::2], rtol=1e-4, atol=1e-4)
    wanted = estimate + unseen * (latent - estimate)
    torch.testing.assert_close(whole[::2], wanted[::2], rtol=1e-4, atol=1e-4)
    assert torch.equal(encoded.token_ids[1::2], plain.token_ids[1::2])
    assert torch.equal(encoded.token_ids, plain.token_ids) == (unseen == 1.0)
