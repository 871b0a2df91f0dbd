"""Grey pictures come back grey, and what transparency hides does not show, staged or in one."""

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.upscaling import in_mode, restorer, staged
from varsr_core.images.color_fix import COLOR_MODES
from varsr_core.images.reference import match_image_colors
from varsr_core.images.seen import is_grey
from varsr_core.upscaling import UpscaleSettings, upscale, upscale_each

GREY = models.picture(33, 40, channels=1)
COLORS = models.picture(33, 40)
TINTED = GREY.repeat(1, 3, 1, 1)
TINTED[0, 2, 3, 4] += 1 / 255


def sprite(hidden, soft=False):
    """(1, 4, 33, 40) with a visible middle, and these colours where nothing is seen."""
    image = torch.cat((models.picture(33, 40, seed=2), torch.zeros(1, 1, 33, 40)), dim=1)
    image[:, 3, 8:25, 9:30] = 1
    if soft:
        image[:, 3, 8:25, 9:15] = torch.linspace(0, 1, 6)
    return torch.cat((torch.where(image[:, 3:] > 0, image[:, :3], hidden), image[:, 3:]), dim=1)


@pytest.mark.parametrize("mode", COLOR_MODES)
@each("strength", [0.0, 0.5, 1.0])
def test_grey_comes_back_without_colour_in_every_mode(mode, strength):
    settings = UpscaleSettings(color_fix=mode, color_strength=strength)
    for image in (GREY, GREY.expand(-1, 3, -1, -1)):
        found = upscale(image, 2.0, restorer(), settings=settings)
        assert found.shape == (1, 3, 66, 80)
        assert is_grey(found)


def test_the_least_tint_is_kept():
    assert not is_grey(upscale(TINTED, 2.0, restorer()))


def test_grey_is_known_of_each_picture_by_itself():
    batch = torch.cat((COLORS, GREY.expand(-1, 3, -1, -1), TINTED))
    found = upscale(batch, 2.0, restorer())
    assert [is_grey(one) for one in found.split(1)] == [False, True, False]
    alone = upscale(batch[1:2], 2.0, restorer())
    assert torch.equal(found[1:2], alone)
    assert torch.equal(upscale_each(list(batch), 2.0, restorer())[1], alone[0])


def test_a_mask_keeps_grey_grey():
    mask = torch.zeros(1, 1, 33, 40)
    mask[..., 10:20] = 1
    assert is_grey(upscale(GREY, 2.0, restorer(), mask=mask))


@pytest.mark.parametrize("mode", ["adain", "wavelet", "lab"])
def test_a_picture_of_any_maker_matched_to_a_grey_one_is_grey(mode):
    found = match_image_colors(COLORS, GREY, mode)
    assert is_grey(found)
    assert (found.mean() - GREY.mean()).abs() < 0.02
    assert not is_grey(match_image_colors(COLORS, TINTED, mode))
    assert torch.equal(match_image_colors(COLORS, GREY, mode, 0.0), COLORS)
    assert torch.equal(match_image_colors(COLORS, GREY, "none"), COLORS)


@pytest.mark.parametrize("color_fix", COLOR_MODES)
@each("image", [GREY, GREY.expand(2, 3, -1, -1), sprite(torch.zeros(())),
                sprite(COLORS, soft=True), sprite(COLORS).repeat(2, 1, 1, 1)])  # fmt: skip
def test_staged_or_in_one_the_bits_are_the_same(color_fix, image):
    settings = in_mode("phased", color_fix=color_fix)
    found = upscale(image, 2.0, restorer(), seed=11, settings=settings)
    assert torch.equal(staged(image, 2.0, restorer(), settings), found)


@pytest.mark.parametrize("mode", COLOR_MODES)
@each("image", [GREY, sprite(COLORS), sprite(COLORS, soft=True), COLORS])
def test_how_pixels_lie_in_memory_changes_no_bit(mode, image):
    restored = models.picture(66, 80, channels=4 if image.shape[1] == 4 else 3, seed=9)

    def as_hosts_do(values):
        return values.movedim(1, -1).contiguous().movedim(-1, 1)

    found = match_image_colors(as_hosts_do(restored), as_hosts_do(image), mode)
    assert torch.equal(found, match_image_colors(restored, image, mode))


@pytest.mark.parametrize("color_fix", COLOR_MODES)
@each("soft", [False, True])
def test_what_is_hidden_does_not_show(color_fix, soft):
    settings = UpscaleSettings(color_fix=color_fix)
    hidden = (torch.zeros(()), torch.ones(()), COLORS)
    first, *others = (
        upscale(sprite(one, soft), 2.0, restorer(), settings=settings) for one in hidden
    )
    for other in others:
        assert torch.equal(first, other)


def test_a_grey_sprite_is_grey_whatever_it_hides():
    image = sprite(COLORS)
    image[:, :3] = torch.where(image[:, 3:] > 0, GREY, COLORS)
    assert is_grey(upscale(image, 2.0, restorer())[:, :3])


def test_a_picture_of_which_nothing_is_seen_is_restored_as_if_all_were():
    image = torch.cat((COLORS, torch.zeros(1, 1, 33, 40)), dim=1)
    found = upscale(image, 2.0, restorer())
    assert torch.equal(found[:, :3], upscale(COLORS, 2.0, restorer()))
    assert found[:, 3].max() == 0
