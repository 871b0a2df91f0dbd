"""What of a film stands still: noise does not count, whatever else changes does."""

import pytest
import torch

from helpers.each import each
from varsr_core.images import stillness as subject

SIDE, CELLS = 4, 24
PIXELS = SIDE * CELLS
SIGMA = 6 / 255


def scene(seed=1, low=0.2, high=0.8):
    """(3, h, w): blobs of some pixels, with edges."""
    coarse = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (PIXELS, PIXELS), mode="bicubic")[0]
    return low + (high - low) * smooth.clamp(0, 1)


def noisy(picture, seed, sigma=SIGMA):
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    return (picture + sigma * noise).clamp(0, 1)


def still(frame, before):
    noise = subject.noise_between(frame, before, SIDE)
    return subject.stillness(frame, before, noise, torch.ones(CELLS, CELLS), SIDE)


def cut(frame, before):
    noise = subject.noise_between(frame, before, SIDE)
    found = still(frame, before)
    return subject.is_cut(found, (frame, before), noise, SIDE)


@each("sigma", [0, 2 / 255, SIGMA, 15 / 255])
def test_noise_alone_leaves_every_cell_nearly_still(sigma):
    found = still(noisy(scene(), 1, sigma), noisy(scene(), 2, sigma))
    assert found.mean() > 0.9
    assert found.max() <= 1


@each("sigma", [2 / 255, SIGMA, 15 / 255])
def test_noise_is_measured_in_spite_of_structure_and_of_borders_that_have_none(sigma):
    picture = scene()
    before, frame = noisy(picture, 1, sigma), noisy(picture, 2, sigma)
    for one in (before, frame):
        one[:, :24], one[:, -24:] = 0, 0
    noise = subject.noise_between(frame, before, SIDE)
    assert noise.pixels.mean().sqrt() == pytest.approx(sigma, rel=0.15)
    assert noise.means.mean().sqrt() == pytest.approx(sigma / SIDE, rel=0.3)


def test_noise_of_bright_parts_is_not_that_of_dark_ones():
    picture = torch.cat((scene(1, 0.1, 0.3), scene(2, 0.7, 0.9)), dim=2)
    sigma = torch.cat((torch.full((PIXELS,), 3 / 255), torch.full((PIXELS,), 7 / 255)))
    noise = subject.noise_between(noisy(picture, 1, sigma), noisy(picture, 2, sigma), SIDE)
    dark, bright = noise.pixels.sqrt().mean(dim=0).split(CELLS, dim=1)
    assert dark.mean() * 255 == pytest.approx(3, rel=0.2)
    assert bright.mean() * 255 == pytest.approx(7, rel=0.2)


def test_motion_everywhere_is_not_taken_for_noise():
    picture = scene()
    noise = subject.noise_between(noisy(picture.roll(3, 2), 1), noisy(picture, 2), SIDE)
    assert noise.pixels.max().sqrt() < 1.6 * SIGMA


def test_what_moves_is_not_still_and_all_else_is():
    before, frame = scene(), scene()
    before[:, 40:56, 32:48] = frame[:, 40:56, 40:56] = 0.95
    found = still(noisy(frame, 1), noisy(before, 2))
    assert found[10:14, 8:14].max() == 0
    assert found[:6].mean() > 0.9


@each("change", [-0.012, 0.012])
def test_light_that_changes_less_than_noise_shows(change):
    noise = subject.noise_between(noisy(scene(), 2), noisy(scene(), 3), SIDE)
    frame, before = noisy(scene() + change, 1), noisy(scene(), 2)
    found = subject.stillness(frame, before, noise, torch.ones(CELLS, CELLS), SIDE)
    assert found.mean() < 0.1


def test_a_new_scene_is_a_cut():
    assert cut(noisy(scene(2), 1), noisy(scene(1), 2))


def test_a_new_scene_between_black_bars_is_a_cut():
    frame, before = noisy(scene(2), 1), noisy(scene(1), 2)
    for one in (before, frame):
        one[:, :30], one[:, -30:] = 0, 0
    assert cut(frame, before)


@each("shown", ["still", "object", "black"])
def test_what_goes_on_is_no_cut(shown):
    before, frame = scene(), scene()
    if shown == "object":
        before[:, 40:56, 32:48] = frame[:, 40:56, 40:56] = 0.95
    if shown == "black":
        before, frame = torch.zeros(3, PIXELS, PIXELS), torch.zeros(3, PIXELS, PIXELS)
    assert not cut(noisy(frame, 1), noisy(before, 2))


@each("size", [(4, 4), (4, 8), (12, 4)])
def test_frames_of_a_few_cells_are_looked_at(size):
    frame = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    noise = subject.noise_between(frame, frame, SIDE)
    share = torch.ones(size[0] // SIDE, size[1] // SIDE)
    assert subject.stillness(frame, frame, noise, share, SIDE).min() == 1
