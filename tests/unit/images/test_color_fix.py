from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from helpers import models
from varsr_core.errors import InputError
from varsr_core.images.color_fix import COLOR_MODES, low_band, match_colors
from varsr_core.images.reference import match_image_colors
from varsr_core.images.resize import resize

CORRECTIONS = [mode for mode in COLOR_MODES if mode != "none"]


@pytest.fixture
def image():
    return 0.3 + 0.3 * models.picture(50, 61, images=2, seed=1)  # the corrected one stays in range


@pytest.fixture
def reference():
    return 0.4 + 0.2 * models.picture(50, 61, images=2, seed=2)


def plain_adain(image, reference):
    result = np.empty_like(image)
    for index in np.ndindex(image.shape[:2]):
        x, y = image[index], reference[index]
        deviation = np.sqrt(x.var(ddof=1) + 1e-5), np.sqrt(y.var(ddof=1) + 1e-5)
        result[index] = (x - x.mean()) / deviation[0] * deviation[1] + y.mean()
    return result


def plain_low_band(image):
    for level in range(5):
        radius = 2**level
        kernel = np.zeros(2 * radius + 1)
        kernel[[0, radius, -1]] = 0.25, 0.5, 0.25
        kernel = np.outer(kernel, kernel)
        image = np.stack(
            [
                np.stack([correlate(channel, kernel, mode="nearest") for channel in one])
                for one in image
            ]
        )
    return image


def test_adain_equals_its_formula(image, reference):
    expected = plain_adain(image.double().numpy(), reference.double().numpy())
    assert expected.min() > 0
    assert expected.max() < 1
    found = match_colors(image, reference, "adain")
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_adain_takes_mean_and_deviation_from_the_reference(image, reference):
    found = match_colors(image, reference, "adain")
    torch.testing.assert_close(found.mean((2, 3)), reference.mean((2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std((2, 3)), reference.std((2, 3)), atol=1e-3, rtol=0)


def test_low_band_equals_five_plain_convolutions(image):
    expected = plain_low_band(image.double().numpy())
    np.testing.assert_allclose(low_band(image), expected, atol=1e-5)


def test_wavelet_puts_the_detail_of_the_image_on_the_low_band_of_the_reference(image, reference):
    x, y = image.double().numpy(), reference.double().numpy()
    expected = np.clip(x - plain_low_band(x) + plain_low_band(y), 0, 1)
    np.testing.assert_allclose(match_colors(image, reference, "wavelet"), expected, atol=1e-5)


@pytest.mark.parametrize("mode", COLOR_MODES)
def test_strength_0_returns_the_image(image, reference, mode):
    assert torch.equal(match_colors(image, reference, mode, 0.0), image)


def test_mode_none_returns_the_image(image, reference):
    assert torch.equal(match_colors(image, reference, "none"), image)


@pytest.mark.parametrize("mode", CORRECTIONS)
def test_strength_goes_in_a_straight_line_to_the_full_correction(image, reference, mode):
    full = match_colors(image, reference, mode, 1.0)
    quarter = match_colors(image, reference, mode, 0.25)
    assert (full - image).abs().max() > 0.05
    torch.testing.assert_close(quarter, 0.75 * image + 0.25 * full, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pair", list(combinations(CORRECTIONS, 2)))
def test_modes_differ(image, reference, pair):
    found = [match_colors(image, reference, mode) for mode in pair]
    assert (found[0] - found[1]).abs().max() > 0.05


@pytest.mark.parametrize("mode", CORRECTIONS)
def test_pictures_of_a_batch_are_corrected_one_by_one(image, reference, mode):
    both = match_colors(image, reference, mode)
    single = match_colors(image[1:], reference[1:], mode)
    torch.testing.assert_close(both[1:], single, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", CORRECTIONS)
def test_one_reference_serves_a_whole_batch(image, reference, mode):
    found = match_colors(image, reference[:1], mode)
    expected = match_colors(image, reference[:1].expand(2, -1, -1, -1), mode)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", CORRECTIONS)
def test_correction_stays_in_range(mode):
    strong, dark = models.picture(32, 32, seed=1), torch.zeros(1, 3, 32, 32)
    strong[:, :, 8:] = 0
    for pair in ((strong, 1 - dark), (1 - strong, dark), (dark, strong)):
        found = match_colors(*pair, mode)
        assert torch.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1


def test_unknown_mode_is_refused_with_the_known_ones(image, reference):
    with pytest.raises(InputError, match="'histogram' is none of adain, wavelet, lab, none"):
        match_colors(image, reference, "histogram")


def test_reference_of_another_size_is_refused_with_both_sizes(image):
    with pytest.raises(InputError, match=r"30x20 .* 61x50; resize one of them"):
        match_colors(image, models.picture(20, 30))


def test_reference_of_another_batch_is_refused(image):
    with pytest.raises(InputError, match="reference holds 3 pictures, image 2"):
        match_colors(image, models.picture(50, 61, images=3))


def test_picture_is_matched_to_a_reference_of_another_size_and_keeps_its_alpha():
    image = models.picture(40, 56, channels=4)
    reference = models.picture(10, 14, channels=4, seed=3)
    found = match_image_colors(image, reference, "adain")
    alpha = image[:, 3:]
    assert torch.equal(found[:, 3:], alpha)
    enlarged = resize(reference[:, :3], 40, 56)
    means = ((values * alpha).sum((2, 3)) / alpha.sum() for values in (found[:, :3], enlarged))
    assert next(means).sub_(next(means)).abs().max() < 0.02


def test_grey_reference_serves_a_picture_with_colours():
    image, grey = models.picture(40, 56), models.picture(40, 56, channels=1, seed=3)
    found = match_image_colors(image, grey, "adain")
    expected = match_image_colors(image, grey.expand(-1, 3, -1, -1), "adain")
    assert torch.equal(found, expected)


@pytest.mark.parametrize("mode", ["adain", "wavelet", "lab", "none"])
def test_grey_picture_of_one_channel_gets_the_colours_of_its_reference(mode):
    grey, reference = models.picture(20, 30, channels=1), models.picture(20, 30, seed=1)
    found = match_image_colors(grey, reference, mode)
    assert torch.equal(found, match_image_colors(grey.expand(-1, 3, -1, -1), reference, mode))
