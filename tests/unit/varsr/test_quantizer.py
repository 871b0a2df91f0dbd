import numpy as np
import pytest
import torch

from helpers import models
from helpers.each import each
from varsr_core.nn.schedule import ScaleSchedule
from varsr_core.varsr.quantizer import Quantizer, phi_index

SIDES = (1, 2, 3, 5, 8)


@pytest.fixture
def dense():
    """Codes on a grid of 1/8 over [-1, 1] squared; phi only halves what it is given."""
    axis = torch.linspace(-1, 1, 17)
    codes = torch.cartesian_prod(axis, axis)
    quantizer = Quantizer(len(codes), 2, 4, ScaleSchedule(SIDES)).requires_grad_(False)
    quantizer.codebook.weight.copy_(codes)
    for phi in quantizer.phi:
        phi.weight.zero_()
        phi.bias.zero_()
    return quantizer


@pytest.fixture
def quantizer():
    return models.micro_model().quantizer


def random_latent(channels, side, images=2):
    generator = torch.Generator().manual_seed(0)
    return 0.8 * (2 * torch.rand(images, channels, side, side, generator=generator) - 1)


def test_ten_scales_use_the_phi_they_were_trained_with():
    assert [phi_index(k, 10, 4) for k in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]


@each("count", [1, 2, 4, 8])
def test_first_scale_uses_the_first_phi_and_last_scale_the_last(count):
    assert phi_index(0, 10, count) == 0
    assert phi_index(9, 10, count) == count - 1
    assert phi_index(0, 1, count) == 0


def test_encoding_comes_as_near_as_the_codebook_allows(dense):
    latent = random_latent(2, SIDES[-1])
    _, latents, _ = dense.encode(latent)
    assert (latent - latents[-1]).abs().max() <= 1 / 16 + 1e-6


def test_every_scale_leaves_less_to_encode(dense):
    smooth = torch.linspace(-0.8, 0.8, SIDES[-1])
    latent = torch.stack(torch.meshgrid(smooth, smooth, indexing="ij"))[None] + 0.1
    _, latents, _ = dense.encode(latent)
    rests = [latent.norm().item()] + [(latent - total).norm().item() for total in latents]
    assert all(after < before for before, after in zip(rests, rests[1:], strict=False))


def test_latents_are_the_sums_of_what_their_tokens_add(quantizer):
    latent = random_latent(32, 4)
    ids, latents, _ = quantizer.encode(latent)
    total = torch.zeros_like(latent)
    for scale, found in enumerate(ids):
        total = total + quantizer.residual(found, scale)
        torch.testing.assert_close(latents[scale], total)


def test_rest_before_the_last_scale_lacks_all_scales_but_the_last(quantizer):
    latent = random_latent(32, 4)
    _, latents, rest = quantizer.encode(latent)
    torch.testing.assert_close(rest, latent - latents[-2])


def test_encoding_is_repeatable_from_the_tokens_it_gave(quantizer):
    latent = random_latent(32, 4)
    ids, latents, _ = quantizer.encode(latent)
    again, forced, _ = quantizer.encode(latent, ids)
    assert all(map(torch.equal, ids, again))
    assert all(map(torch.equal, latents, forced))


def test_nearest_code_is_the_one_with_the_smallest_distance(quantizer):
    tokens = torch.randn(50, 32, generator=torch.Generator().manual_seed(1))
    codes = quantizer.codebook.weight.detach().double().numpy()
    differences = tokens.double().numpy()[:, None] - codes[None]
    expected = np.argmin((differences**2).sum(-1), axis=1)
    assert quantizer.nearest(tokens).tolist() == expected.tolist()


def test_last_scale_adds_its_codes_as_they_are(quantizer):
    ids = torch.arange(16)[None]
    added = quantizer.residual(ids, 3)
    codes = quantizer.codebook.weight
    for row in range(4):
        for column in range(4):
            assert torch.equal(added[0, :, row, column], codes[4 * row + column])


def test_first_scale_adds_one_code_everywhere_smoothed_by_half():
    quantizer = models.micro_model().quantizer
    added = quantizer.residual(torch.tensor([[5]]), 0)
    code = quantizer.codebook.weight[5].numpy()
    weight, bias = quantizer.phi[0].weight.numpy(), quantizer.phi[0].bias.numpy()
    convolved = np.einsum("oihw,i->o", weight, code) + bias  # inside, away from zero padding
    np.testing.assert_allclose(added[0, :, 1, 1], (code + convolved) / 2, atol=1e-5)


@each("scale", range(len(SIDES)))
def test_downsampling_keeps_the_mean_and_averages_areas(dense, scale):
    latent, side = random_latent(2, SIDES[-1]), SIDES[scale]
    found = dense.downsample(latent, scale)
    length = SIDES[-1]
    for token, (i, j) in enumerate(np.ndindex(side, side)):
        rows = slice(i * length // side, -(-(i + 1) * length // side))
        columns = slice(j * length // side, -(-(j + 1) * length // side))
        area = latent[:, :, rows, columns].mean(dim=(2, 3))
        torch.testing.assert_close(found[:, token], area)
