"""Bands of a picture that give way to the input, coarse before fine."""

import pytest
import torch

from helpers import models
from varsr_core.errors import InputError
from varsr_core.images import color_fix
from varsr_core.images.color_fix import low_band
from varsr_core.images.fidelity import BANDS, band_shares, keep
from varsr_core.images.reference import keep_of_image
from varsr_core.images.resize import resize

SHARES = [share / 20 for share in range(21)]


@pytest.fixture(scope="module")
def pair():
    """A picture, and another of the same size that is smooth."""
    restored = models.picture(96, 160, seed=1)
    return restored, resize(models.picture(12, 20, seed=2), 96, 160)


def distance(one, other):
    return float((one - other).square().mean())


def test_ends_are_the_two_pictures(pair):
    restored, plain = pair
    assert keep(restored, plain, 0.0) is restored
    assert (keep(restored, plain, 1.0) - plain).abs().max() < 1e-6


def test_more_of_it_is_never_further_from_the_input(pair):
    distances = [distance(keep(*pair, share), pair[1]) for share in SHARES]
    assert all(later < earlier for earlier, later in zip(distances, distances[1:], strict=False))


def test_coarse_shapes_give_way_before_fine_ones(pair):
    restored, plain = pair
    found = keep(restored, plain, 1 / BANDS)
    coarse = distance(low_band(found), low_band(plain))
    assert coarse < 0.3 * distance(low_band(restored), low_band(plain))
    fine = [picture - low_band(picture) for picture in (found, restored)]
    assert distance(*fine) < 0.1 * float(fine[1].square().mean())


def test_shares_are_full_for_coarser_bands_first():
    for share in SHARES:
        shares = band_shares(share)
        assert shares == sorted(shares, reverse=True)
        assert sum(0 < one < 1 for one in shares) <= 1
    assert band_shares(1.0) == [1.0] * BANDS


def test_strips_do_not_show(pair, monkeypatch):
    whole = keep(*pair, 0.6)
    monkeypatch.setattr(color_fix, "STRIP_PIXELS", 160 * 7)
    assert (keep(*pair, 0.6) - whole).abs().max() < 1e-6


def test_what_alpha_hides_has_no_say(pair):
    restored, plain = pair
    alpha = torch.zeros(1, 1, 96, 160)
    alpha[..., 40:] = 1
    hidden = restored.clone()
    hidden[..., :40] = 0
    found, other = (keep(one, plain, 0.4, alpha)[..., 40:] for one in (restored, hidden))
    assert (found - other).abs().max() < 1e-5
    assert (keep(restored, plain, 0.4)[..., 40:] - found).abs().max() > 1e-3


def test_every_picture_of_a_batch_has_its_own_or_one_for_all(pair):
    restored, plain = pair
    batch = torch.cat((restored, restored.flip(3)))
    found = keep(batch, plain, 0.5)
    assert torch.equal(found[:1], keep(restored, plain, 0.5))
    assert torch.equal(found[1:], keep(batch[1:], plain, 0.5))


def test_reference_of_another_size_and_alpha_of_the_picture():
    image, reference = models.picture(64, 48, channels=4), models.picture(16, 12)
    found = keep_of_image(image, reference, 1.0)
    assert torch.equal(found[:, 3:], image[:, 3:])
    assert (found[:, :3] - resize(reference, 64, 48)).abs().max() < 1e-6


def test_what_cannot_be_is_refused(pair):
    with pytest.raises(InputError, match="0 to 1 is expected"):
        keep(*pair, 1.5)
    with pytest.raises(InputError, match="one size"):
        keep(pair[0], pair[1][..., :-1], 0.5)
