"""CIELAB, and the colour mode that works in it."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from helpers import models
from helpers.each import each
from varsr_core.images.cielab import RGB_FROM_XYZ, XYZ_FROM_RGB, to_lab, to_lightness, to_rgb
from varsr_core.images.color_fix import low_band, match_colors

# Published for the D65 white of CIE 15 by Bruce Lindbloom's calculator and scikit-image's tests.
PUBLISHED = {
    (1, 0, 0): (53.2408, 80.0925, 67.2032),
    (0, 1, 0): (87.7347, -86.1827, 83.1793),
    (0, 0, 1): (32.2970, 79.1875, -107.8602),
    (0, 1, 1): (91.1132, -48.0875, -14.1312),
    (1, 0, 1): (60.3242, 98.2343, -60.8249),
    (1, 1, 0): (97.1393, -21.5537, 94.4780),
    (1, 1, 1): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (0.5, 0.5, 0.5): (53.3890, 0.0, 0.0),
}
PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))  # x, y of IEC 61966-2-1
WHITE = np.array((0.95047, 1.0, 1.08883))  # CIE 15, D65, 2 degrees


@pytest.fixture
def image():
    tint = torch.tensor([0.32, 0.25, 0.18])[:, None, None]
    return tint + 0.3 * models.picture(90, 121, seed=1)


@pytest.fixture
def reference():
    return 0.35 + 0.25 * models.picture(90, 121, seed=9)


def pixels(colors):
    """Colours in a row: (1, 3, 1, N)."""
    return torch.tensor(colors, dtype=torch.float32).T[None, :, None]


def matrix():
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES]).T
    return columns * np.linalg.solve(columns, WHITE) / WHITE[:, None]


def plain_lab(rgb):
    """(3, H, W) float64."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    share = np.einsum("ij,jhw->ihw", matrix(), linear)
    x, y, z = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def plain_low_band(channels):
    for level in range(5):
        line = np.zeros(2 * 2**level + 1)
        line[[0, 2**level, -1]] = 0.25, 0.5, 0.25
        for axis in (1, 2):
            channels = correlate1d(channels, line, axis=axis, mode="nearest")
    return channels


def correlation(first, second):
    return np.corrcoef(first.flatten(), second.flatten())[0, 1]


@each(("rgb", "lab"), PUBLISHED.items())
def test_lab_has_the_published_values(rgb, lab):
    np.testing.assert_allclose(to_lab(pixels([rgb])).flatten(), lab, atol=2e-4)


def test_matrices_follow_from_the_primaries_and_undo_each_other():
    np.testing.assert_allclose(XYZ_FROM_RGB, matrix(), atol=1e-9)
    np.testing.assert_allclose(np.array(XYZ_FROM_RGB) @ RGB_FROM_XYZ, np.eye(3), atol=1e-8)


def test_dark_greys_lie_on_the_straight_part_of_both_curves():
    level = torch.arange(11) / 255  # up to 0.04045
    lightness = to_lab(level.expand(1, 3, 1, -1))[0, 0, 0]
    np.testing.assert_allclose(lightness, 24389 / 27 * level / 12.92, atol=1e-5)


def test_lab_equals_its_formula_over_the_whole_range():
    rgb = models.picture(64, 64, seed=3) ** 2
    np.testing.assert_allclose(to_lab(rgb)[0], plain_lab(rgb[0].double().numpy()), atol=2e-4)


def test_lightness_alone_is_that_of_lab(image):
    assert torch.equal(to_lightness(image), to_lab(image)[:, :1])


def test_round_trip_keeps_every_colour():
    levels = torch.cat((torch.linspace(0, 1, 33), torch.linspace(0, 0.06, 16)))
    rgb = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 49, -1)
    torch.testing.assert_close(to_rgb(to_lab(rgb)), rgb, atol=1e-5, rtol=0)


def test_colours_that_srgb_lacks_stay_finite():
    colors = to_rgb(pixels([(0, 90, -90), (0, -90, 90), (50, -200, 200), (130, 0, 0), (-20, 0, 0)]))
    assert torch.isfinite(colors).all()
    assert colors.amin() < 0
    assert colors.amax() > 1


def test_lab_mode_equals_its_formula(image, reference):
    x, y = (plain_lab(one[0].double().numpy()) for one in (image, reference))
    deviation = [np.sqrt(one[0].var(ddof=1) / 100**2 + 1e-5) for one in (x, y)]
    lightness = (x[0] - x[0].mean()) / deviation[0] * deviation[1] + y[0].mean()
    chroma = x[1:] - plain_low_band(x[1:]) + plain_low_band(y[1:])
    found = match_colors(image, reference, "lab")
    assert found.min() > 0
    assert found.max() < 1
    expected = np.concatenate((lightness[None], chroma))
    np.testing.assert_allclose(plain_lab(found[0].double().numpy()), expected, atol=2e-3)


def test_lab_mode_keeps_a_picture_that_equals_its_reference():
    # Black, white and full colours among it: the image cannot leave [0, 1] on the way.
    image = (1.6 * models.picture(60, 61) - 0.3).clamp(0, 1)
    torch.testing.assert_close(match_colors(image, image, "lab"), image, atol=1e-4, rtol=0)


def test_lab_mode_removes_casts_of_each_part(reference):
    # Warm on the left, cold on the right: on average there is no cast that could be seen.
    warm = torch.linspace(0.15, -0.15, reference.shape[3]).expand(*reference.shape[2:])
    image = reference + torch.stack((warm, torch.zeros_like(warm), -warm))
    chroma = low_band(to_lab(reference))[:, 1:]
    far = {
        mode: (low_band(to_lab(match_colors(image, reference, mode)))[:, 1:] - chroma).abs().mean()
        for mode in ("none", "adain", "lab")
    }
    assert far["none"] > 5
    assert far["adain"] > 2
    assert far["lab"] < 0.5


def test_lab_mode_gives_the_mean_chroma_of_the_reference(image, reference):
    wanted = low_band(to_lab(reference))[:, 1:].mean((2, 3))
    before = to_lab(image)[:, 1:].mean((2, 3))
    found = to_lab(match_colors(image, reference, "lab"))[:, 1:].mean((2, 3))
    assert (before - wanted).abs().max() > 2
    assert (found - wanted).abs().max() < 0.5


def test_lab_mode_keeps_lightness_but_for_its_mean_and_deviation(image, reference):
    before, wanted = to_lightness(image), to_lightness(reference)
    found = to_lightness(match_colors(image, reference, "lab"))
    assert correlation(found, before) > 0.99999
    assert correlation(to_lightness(match_colors(image, reference, "wavelet")), before) < 0.9
    assert (before.mean() - wanted.mean()).abs() > 2
    assert (found.mean() - wanted.mean()).abs() < 1e-2
    assert (before.std() - wanted.std()).abs() > 0.5
    assert (found.std() - wanted.std()).abs() < 0.05


def test_lab_mode_gives_a_grey_reference_grey_means_and_keeps_fine_colour(image):
    grey = 0.2 + 0.6 * models.picture(90, 121, channels=1, seed=2).expand(-1, 3, -1, -1)
    chroma = to_lab(match_colors(image, grey, "lab"))[:, 1:]
    assert chroma.mean((2, 3)).abs().max() < 0.5
    detail = [part - low_band(part) for part in (chroma, to_lab(image)[:, 1:])]
    assert correlation(*detail) > 0.99
