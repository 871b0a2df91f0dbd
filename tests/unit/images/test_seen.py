"""Hidden colours give way to those that are seen, and what has no colour is known."""

import pytest
import torch

from helpers import models
from helpers.each import each
from varsr_core.images.color_fix import COLOR_MODES, match_colors, measure
from varsr_core.images.resize import resize
from varsr_core.images.seen import (
    TRUSTED,
    is_grey,
    opacity,
    seen_colors,
    without_color,
)

SIZES = [(24, 32), (37, 29), (1, 40), (40, 1), (2, 2)]


def disc(height, width, soft=0.0):
    """(1, 1, H, W) in [0, 1], 1 inside, fading over `soft` pixels."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    away = ((y - height / 2) ** 2 + (x - width / 2) ** 2).sqrt()
    return ((min(height, width) / 3 + 1 - away) / max(soft, 1e-6)).clamp(0, 1)[None, None]


def rgba(colors, alpha):
    return torch.cat((colors, alpha.expand(len(colors), -1, -1, -1)), dim=1)


def hidden_changed(image, seed=5):
    """The same to the eye: other colours where alpha is 0."""
    other = models.picture(*image.shape[2:], images=len(image), seed=seed)
    colors = torch.where(image[:, 3:] > 0, image[:, :3], other)
    return torch.cat((colors, image[:, 3:]), dim=1)


@each("size", SIZES)
@pytest.mark.parametrize("soft", [0.0, 6.0])
def test_hidden_colours_make_no_difference_and_seen_ones_stay_exact(size, soft):
    alpha = disc(*size, soft)
    image = rgba(models.picture(*size), alpha)
    found = seen_colors(image)
    if opacity(alpha) is not None:
        assert torch.equal(found, seen_colors(hidden_changed(image)))
    seen = (alpha >= TRUSTED).expand_as(found)
    assert torch.equal(found[seen], image[:, :3][seen])


def test_hidden_pixels_take_the_colours_of_the_nearest_that_are_seen():
    colors = torch.zeros(1, 3, 32, 64)
    colors[:, 0, :, :8], colors[:, 1, :, -8:] = 1.0, 1.0
    alpha = torch.zeros(1, 1, 32, 64)
    alpha[..., :8] = alpha[..., -8:] = 1
    red, green, blue = seen_colors(rgba(colors, alpha))[0]
    assert red[:, 8:12].min() > 0.9
    assert green[:, 52:56].min() > 0.9
    assert blue.max() == 0


@each("value", [0.0, 0.3, 1.0])
def test_one_seen_pixel_colours_everything(value):
    image = torch.rand(1, 4, 33, 50, generator=torch.Generator().manual_seed(0))
    image[:, 3], image[0, :, 20, 7] = 0, torch.tensor([value, 0.5, 0.25, 1.0])
    found = seen_colors(image)
    wanted = torch.tensor([value, 0.5, 0.25])[None, :, None, None].expand_as(found)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_filled_colours_lie_between_those_that_are_seen():
    image = rgba(models.picture(37, 29) * 0.5 + 0.25, disc(37, 29, 4))
    inside = hidden_changed(image)
    inside[:, :3] = torch.where(image[:, 3:] > 0, image[:, :3], 1e-3)
    found = seen_colors(inside)
    assert found.min() >= image[:, :3].min() - 1e-6
    assert found.max() <= image[:, :3].max() + 1e-6


@each("alpha", [0.0, 0.5, 1.0])
def test_pictures_that_hide_nothing_or_all_are_not_copied(alpha):
    image = rgba(models.picture(24, 32), torch.full((1, 1, 24, 32), alpha))
    assert seen_colors(image).data_ptr() == image.data_ptr()
    assert torch.equal(seen_colors(image), image[:, :3])


def test_pictures_of_a_batch_are_filled_each_by_itself():
    image = rgba(models.picture(24, 32, images=3), disc(24, 32))
    image[1, 3], image[2, 3] = 1, 0
    found = seen_colors(image)
    assert torch.equal(found, torch.cat([seen_colors(one) for one in image.split(1)]))


def test_grey_is_what_has_equal_channels_wherever_it_is_seen():
    grey = models.picture(24, 32, channels=1)
    assert is_grey(grey)
    colors = grey.repeat(1, 3, 1, 1)
    assert is_grey(colors)
    tinted = colors.clone()
    tinted[0, 2, 11, 7] += 1 / 65535
    assert not is_grey(tinted)
    hidden = rgba(tinted, torch.ones(1, 1, 24, 32))
    assert not is_grey(hidden)
    hidden[0, 3, 11, 7] = 0
    assert is_grey(hidden)
    assert not is_grey(rgba(tinted, torch.zeros(1, 1, 24, 32)))


def test_luma_is_in_all_channels_and_greys_are_exact():
    image = models.picture(24, 32)
    found = without_color(image)
    red, green, blue = image.split(1, dim=1)
    wanted = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    torch.testing.assert_close(found, wanted.expand_as(found), atol=1e-3, rtol=0)
    assert is_grey(found)
    assert torch.equal(without_color(found), found)


@pytest.mark.parametrize("mode", ["adain", "lab"])
def test_statistics_are_those_of_the_pixels_that_are_seen(mode):
    whole = models.picture(48, 40)
    alpha = torch.zeros(1, 1, 48, 40)
    alpha[:, :, :20] = 1
    found, wanted = measure(whole, mode, alpha), measure(whole[:, :, :20], mode)
    for value, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mode", COLOR_MODES)
def test_hidden_pixels_of_neither_picture_show_in_the_seen_ones(mode):
    alpha = disc(48, 40)
    image, reference = models.picture(48, 40), models.picture(48, 40, seed=1)
    spoilt = [hidden_changed(rgba(one, alpha))[:, :3] for one in (image, reference)]
    first = match_colors(image, reference, mode, 1.0, alpha)
    second = match_colors(*spoilt, mode, 1.0, alpha)
    torch.testing.assert_close(first * alpha, second * alpha, atol=2e-5, rtol=0)


@pytest.mark.parametrize("mode", COLOR_MODES)
@each("alpha", [0.0, 1.0])
def test_alpha_that_prefers_no_pixel_changes_no_bit(mode, alpha):
    image, reference = models.picture(48, 40, images=2), models.picture(48, 40, images=2, seed=1)
    weight = torch.full((2, 1, 48, 40), alpha)
    assert torch.equal(
        match_colors(image, reference, mode, 0.7, weight),
        match_colors(image, reference, mode, 0.7),
    )


def test_resizing_what_was_filled_brings_nothing_hidden_into_the_rim():
    colors = torch.full((1, 3, 32, 32), 0.8)
    image = rgba(torch.where(disc(32, 32) > 0, colors, torch.zeros(())), disc(32, 32))
    assert (resize(image[:, :3], 128, 128) * disc(128, 128) - 0.8).abs().max() > 0.1
    torch.testing.assert_close(resize(seen_colors(image), 128, 128), resize(colors, 128, 128))
