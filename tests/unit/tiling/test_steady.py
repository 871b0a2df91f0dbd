"""What frames of a film leave for the next: how much stays, and when a scene begins anew."""

import pytest
import torch

from helpers.each import each
from helpers.fake_work import CHANNELS, MODES, NINE, STEPS, FakeWork, expected, run
from varsr_core.errors import InputError
from varsr_core.images.output_size import OutputSize
from varsr_core.tiling.canvas import Canvas
from varsr_core.tiling.consistency import Tiling
from varsr_core.tiling.steady import (
    MOST_FRAMES,
    Before,
    Clip,
    Frame,
    check_steady,
    frames_of,
    run_in_frames,
)

TILE, ALIGN, SIDE = 128, 16, 40  # of the output, of the frames; 100 cells of 4 pixels
SIGMA = 6 / 255


def scene(seed=1):
    """(1, 3, SIDE, SIDE)"""
    coarse = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic")
    return 0.2 + 0.6 * smooth.clamp(0, 1)


def noisy(picture, seed):
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    return (picture + SIGMA * noise).clamp(0, 1)


def canvas_of(frame, scale=4.0):
    return Canvas.of(frame, OutputSize("scale", scale), TILE, ALIGN, Tiling())


def followed(frames, steady=1.0, clip=None, made=None):
    """How much stays before each frame, as the tiles have it."""
    clip, found = clip or Clip(), []
    for one in frames:
        canvas = canvas_of(one)
        frame = clip.begin(canvas, one, steady)
        found.append(None if frame.before is None else frame.before.stays)
        make(frame, canvas, range(len(canvas.grid)) if made is None else made)
        clip.end(frame)
    return found


def make(frame, canvas, numbers):
    side = canvas.grid.cells().tile
    frame.over(torch.zeros(len(numbers), 1, side, side), numbers, 0)


@each("steady", [0.25, 0.5, 1.0])
def test_still_cells_are_the_mean_of_frames_so_far_up_to_so_many(steady):
    found = followed([noisy(scene(), k) for k in range(12)], steady)
    assert found[0] is None
    for k, stays in enumerate(found[1:], start=1):
        count = min(k + 1, frames_of(steady))
        assert stays.max() == pytest.approx(1 - 1 / count)
        assert stays.mean() > 0.85 * (1 - 1 / count)


def test_a_cut_begins_as_a_film_that_starts_there():
    first, second = ([noisy(scene(seed), k) for k in range(4)] for seed in (1, 2))
    clip = Clip()
    followed(first, clip=clip)
    after, alone = followed(second, clip=clip), followed(second)
    assert after[0] is alone[0] is None
    for one, other in zip(after[1:], alone[1:], strict=True):
        assert torch.equal(one, other)


def test_a_flash_leaves_nothing():
    flash = (scene() * 1.5 + 0.2).clamp(0, 1)
    frames = [*(noisy(scene(), k) for k in range(3)), noisy(flash, 3), noisy(scene(), 4)]
    assert followed(frames)[3:] == [None, None]


@each("length", [12, 48])
def test_a_fade_leaves_no_cell_that_lags_by_more_than_its_noise(length):
    clip = Clip()
    for k in range(12):
        clean = scene() * (1 - k / length)
        followed([noisy(clean, k)], clip=clip)
        lag = (clip._seen.reference - clean[0]).unflatten(1, (-1, 4)).unflatten(3, (-1, 4))
        assert lag.mean(dim=(2, 4)).square().mean().sqrt() < SIGMA / 2


def test_frames_of_another_size_are_another_film():
    frames = [noisy(scene(), 1), noisy(scene(), 2), noisy(scene(), 3)[..., :30]]
    assert [stays is None for stays in followed(frames)] == [True, False, True]


def test_a_tile_that_was_not_made_before_takes_over_nothing():
    (_, stays) = followed([noisy(scene(), 1), noisy(scene(), 2)], made=[0, 3])
    assert [bool(tile.any()) for tile in stays] == [True, False, False, True]


@each("scale", [1.0, 1.7, 2.0, 4.0, 8.0, 16.0])
@each("align", [8, 16])
def test_every_cell_of_every_tile_has_its_share_at_any_scale(scale, align):
    clip = Clip()
    for k in range(3):
        given = noisy(scene(), k)
        canvas = Canvas.of(given, OutputSize("scale", scale), TILE, align, Tiling())
        frame = clip.begin(canvas, given, 1.0)
        make(frame, canvas, range(len(canvas.grid)))
        clip.end(frame)
    stays = frame.before.stays
    assert stays.shape == (len(canvas.grid), 1, TILE // align, TILE // align)
    assert stays.max() == pytest.approx(2 / 3)


def test_what_does_not_stay_keeps_its_bits():
    latent = torch.tensor([-0.0, 1e-30, 3.0, -2.5]).reshape(1, 1, 2, 2)
    stays = torch.tensor([0.0, 0.0, 0.5, 0.0]).reshape(1, 1, 2, 2)
    found = Before({0: {0: torch.full_like(latent[0], 7.0)}}, stays).over(latent, [0], 0)
    wanted = torch.tensor([-0.0, 1e-30, 5.0, -2.5]).reshape(1, 1, 2, 2)
    assert torch.equal(found.view(torch.int32), wanted.view(torch.int32))


@pytest.mark.parametrize("mode", MODES)
@each("at_once", [1, 2, 100])
def test_tiles_take_over_the_frame_before_after_every_step(mode, at_once):
    earlier = [torch.full((9, CHANNELS, 4, 4), 10.0 + k) for k in range(STEPS)]
    stays = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(0)).round(decimals=1)

    def taken(latent, number, k):
        return torch.lerp(latent, earlier[k][number], stays[number])

    latents = {k: dict(enumerate(tiles)) for k, tiles in enumerate(earlier)}
    frame = Frame(Before(latents, stays), 9)
    found = run(FakeWork(), NINE, mode, at_once=at_once, frame=frame)
    promised = expected(NINE, mode, taken=taken)
    torch.testing.assert_close(torch.stack(found), promised, atol=1e-5, rtol=0)
    assert not torch.equal(promised, expected(NINE, mode))


@pytest.mark.parametrize("mode", MODES)
def test_a_frame_like_the_one_before_becomes_the_same_where_tiles_meet_too(mode):
    first = Frame(None, 9)
    once = run(FakeWork(), NINE, mode, frame=first)
    again = Frame(Before(first.latents, torch.full((9, 1, 4, 4), 0.75)), 9)
    twice = run(FakeWork(), NINE, mode, frame=again)
    torch.testing.assert_close(torch.stack(twice), torch.stack(once))


@each("steady", [-0.1, 1.1, float("nan")])
def test_other_strengths_are_refused(steady):
    with pytest.raises(InputError, match="0 for off"):
        check_steady(steady)


def test_strength_counts_frames():
    assert [frames_of(steady) for steady in (0, 1)] == [1, MOST_FRAMES]
    assert run_in_frames(0) == 0
    assert frames_of(0.5) < run_in_frames(0.5) < run_in_frames(1) <= 24  # half a segment
