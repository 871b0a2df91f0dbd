"""The discriminator of decoded pictures: who learns what from whom."""

import pytest
import torch
import torch.nn.functional as F

from helpers.closed_form import batch_of, drawn
from varsr_core.training.losses.discriminator import Discriminator, adversarial_losses
from varsr_core.training.stages.decoder import DecoderLoss, DecoderSettings, PrefixDecoderLoss

WIDTHS = [3, 6]


def maps(seed, smooth):
    """Of noise, or of noise blurred to a third of its size."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randn(4, c, 16, 16, generator=generator) for c in WIDTHS]
    return [F.avg_pool2d(m, 5, stride=1, padding=2) if smooth else m for m in found]


def gradients(loss, wanted):
    found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    return [gradient is not None and bool(gradient.any()) for gradient in found]


def test_neither_loss_teaches_the_other_side():
    discriminator = Discriminator(WIDTHS)
    decoded, real = maps(0, True), maps(1, False)
    for m in decoded:
        m.requires_grad_(True)
    fooling, telling = adversarial_losses(discriminator, decoded, real)
    assert all(gradients(fooling, decoded))
    assert not any(gradients(fooling, list(discriminator.parameters())))
    assert any(gradients(telling, list(discriminator.parameters())))
    assert not any(gradients(telling, decoded))


def test_losses_are_the_hinge_and_the_mean_score_over_maps_and_positions():
    discriminator = Discriminator(WIDTHS)
    decoded, real = maps(0, True), maps(1, False)
    fooling, telling = adversarial_losses(discriminator, decoded, real)
    fake, true = discriminator(decoded), discriminator(real)
    assert fooling.item() == pytest.approx(-(fake[0].mean() + fake[1].mean()).item() / 2, abs=1e-6)
    hinges = [F.relu(1 + f).mean() + F.relu(1 - t).mean() for f, t in zip(fake, true, strict=True)]
    assert telling.item() == pytest.approx((hinges[0] + hinges[1]).item() / 2)


def test_discriminator_learns_to_tell_and_fooling_it_makes_maps_alike():
    discriminator = Discriminator(WIDTHS)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    for step in range(40):
        optimizer.zero_grad()
        decoded, real = maps(2 * step, True), maps(2 * step + 1, False)
        _, telling = adversarial_losses(discriminator, decoded, real)
        telling.backward()
        optimizer.step()
    assert telling < 0.2
    fooled_by = [
        adversarial_losses(discriminator, maps(999, kind), maps(1, False))[0] for kind in (0, 1)
    ]
    assert fooled_by[0] < fooled_by[1] - 1, "real maps please it more than smooth ones"


def test_first_weights_are_the_same_and_leave_the_global_randomness():
    before = torch.get_rng_state()
    first, second = (Discriminator(WIDTHS).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)


def features(pictures):
    return [pictures, F.avg_pool2d(pictures, 2)]


@pytest.mark.parametrize("kind", [DecoderLoss, PrefixDecoderLoss])
def test_stages_weigh_the_adversarial_loss_and_train_the_discriminator(kind):
    found = drawn("2 pixels a token")
    settings = DecoderSettings(adversarial=0.5, own_share=1.0)
    module = kind(found.model, settings, features)
    assert module.trained()[-1] is module.discriminator
    plain = kind(found.model, DecoderSettings(own_share=1.0), features)
    losses, wanted = module(*batch_of(found, 4)), plain(*batch_of(found, 4))
    for name in ("pixels", "perceptual"):
        torch.testing.assert_close(losses[name], wanted[name])
    total = wanted["loss"] + 0.5 * losses["adversarial"] + losses["judge"]
    torch.testing.assert_close(losses["loss"], total)


def test_without_features_or_weight_there_is_no_discriminator():
    model = drawn("2 pixels a token").model
    assert DecoderLoss(model, DecoderSettings(adversarial=0.5)).discriminator is None
    assert DecoderLoss(model, DecoderSettings(), features).discriminator is None
