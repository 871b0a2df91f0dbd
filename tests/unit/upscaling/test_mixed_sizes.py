"""Pictures of different sizes in one call: the pictures they are alone, from blocks they share."""

import weakref
from dataclasses import dataclass, field

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.told import assert_rises_to_its_total, finished_steps
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.batching import PIXELS_TOGETHER, PictureBatch
from varsr_core.tiling.canvas import Canvas
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.tiling.grid import TileGrid
from varsr_core.upscaling import UpscaleSettings, upscale, upscale_each
from varsr_core.varsr.refiner import Refiner
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.transformer import Block

SAMPLING, REFINING = SampleSettings(top_k=20), RefineSettings(steps=2)
STEPS = 4 + 1
SEED = 7
every_mode = pytest.mark.parametrize("mode", TILING_MODES)

# Tiles of 64 pixels that overlap by 16: 1, 4, 2, 1, 6 and 1 of them at twice the size.
IMAGES = [
    models.picture(30, 32)[0],
    models.picture(50, 40, channels=4)[0],
    models.picture(50, 30, channels=1)[0],
    models.picture(9, 20, channels=4)[0],
    models.picture(70, 40)[0],
    models.picture(32, 32, channels=1)[0],
]
TILES = [1, 4, 2, 1, 6, 1]


class CancelledError(Exception):
    pass


@dataclass(frozen=True)
class SpyRestorer(VARSRRestorer):
    """Notes how many tiles each step has, and each call of the decoder for whole tiles."""

    stepped: list = field(default_factory=list)

    def step(self, state, k):
        super().step(state, k)
        self.stepped.append(state.tiles)


@pytest.fixture
def restorer():
    return SpyRestorer(models.micro_model(), SAMPLING, REFINING)


def in_mode(mode, **settings):
    return UpscaleSettings(Tiling(mode), **settings)


def restored(restorer, mode="phased", *, tiles=1, masks=None, images=IMAGES, **services):
    execution = Execution(prepare=lambda: tiles, **services)
    return upscale_each(
        images, 2.0, restorer, seed=SEED, settings=in_mode(mode), masks=masks, execution=execution
    )


def alone(restorer, mode, masks=None):
    return [
        upscale(
            image[None],
            2.0,
            restorer,
            seed=SEED,
            settings=in_mode(mode),
            mask=None if masks is None else masks[number][None],
        )[0]
        for number, image in enumerate(IMAGES)
    ]


def assert_equal_but_for_rounding(found, expected):
    """On the mean: in a few cells the guided refiner with random weights magnifies it."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().mean() < 1e-4


@every_mode
def test_pictures_have_the_bits_they_have_alone(restorer, mode):
    found = restored(restorer, mode)
    assert set(restorer.stepped) == {1}
    for ours, theirs in zip(found, alone(restorer, mode), strict=True):
        assert torch.equal(ours, theirs)


@every_mode
@each("tiles", [3, 100])
def test_pictures_are_those_they_are_alone_but_for_rounding(restorer, mode, tiles):
    assert_equal_but_for_rounding(restored(restorer, mode, tiles=tiles), alone(restorer, mode))


def test_alpha_differs_from_picture_to_picture(restorer):
    assert [len(picture) for picture in restored(restorer)] == [3, 4, 3, 4, 3, 3]


def test_pictures_of_equal_size_have_the_bits_of_a_batch(restorer):
    batch = models.picture(30, 50, images=3)
    expected = upscale(batch, 2.0, restorer, execution=Execution(prepare=lambda: 2))
    found = upscale_each(list(batch), 2.0, restorer, execution=Execution(prepare=lambda: 2))
    assert torch.equal(torch.stack(found), expected)


@pytest.mark.parametrize(
    ("mode", "blocks"),
    [
        # First tiles of all, then second ones of the three larger pictures, and so on.
        ("phased", [1 + 1 + 1 + 1 + 2 + 1, 1 + 1 + 2, 1 + 1, 1 + 1]),
        ("lock-step", [15]),
        ("independent", [15]),
    ],
)
def test_tiles_of_different_pictures_share_blocks(restorer, mode, blocks):
    restored(restorer, mode, tiles=100)
    assert restorer.stepped == [tiles for tiles in blocks for _ in range(STEPS)]


@pytest.mark.parametrize("tiles", [1, 4])
def test_tiles_that_ran_apart_are_decoded_together_whatever_their_picture(
    restorer, tiles, monkeypatch
):
    decoded, run = [], type(restorer.decoder).decode

    def spy(self, latent):
        decoded.append(len(latent))
        return run(self, latent)

    monkeypatch.setattr(type(restorer.decoder), "decode", spy)
    restored(restorer, "independent", tiles=tiles, images=[IMAGES[0], IMAGES[2], IMAGES[5]])
    assert decoded == ([4] if tiles == 4 else [1] * 4)


@every_mode
def test_each_picture_has_its_own_mask(restorer, mode):
    masks = [torch.zeros(1, 8, 8) for _ in IMAGES]
    masks[1][:, :4] = masks[4][..., :2] = masks[5][:] = 1
    found = restored(restorer, mode, masks=masks)
    for ours, theirs in zip(found, alone(restorer, mode, masks), strict=True):
        assert torch.equal(ours, theirs)
    shared = restored(restorer, mode, masks=masks, tiles=5)
    assert_equal_but_for_rounding(shared, found)


def test_masks_of_different_sizes_are_taken(restorer):
    masks = [torch.ones(1, 3 + number, 5) for number in range(len(IMAGES))]
    for ours, theirs in zip(
        restored(restorer, masks=masks), alone(restorer, "phased", masks), strict=True
    ):
        assert torch.equal(ours, theirs)


@every_mode
@each("tiles", [1, 4, 100])
def test_progress_counts_the_tiles_of_all_pictures(restorer, mode, tiles):
    seen = []
    restored(restorer, mode, tiles=tiles, on_progress=seen.append)
    assert_rises_to_its_total(seen)
    assert {progress.tiles for progress in seen} == {sum(TILES)}
    steps = finished_steps(seen)
    assert steps[-1].step == STEPS - 1
    assert sum(progress.stepped for progress in steps) == sum(TILES) * STEPS


def test_previews_show_each_picture_in_its_own_shape(restorer):
    shapes = []

    def look(progress):
        if progress.draw is not None:
            shapes.append(tuple(progress.draw().shape[1:]))

    restored(restorer, on_progress=look, pictures=True)
    assert set(shapes) == {(2 * h, 2 * w) for h, w in (image.shape[1:] for image in IMAGES)}
    assert shapes[-1] == tuple(2 * side for side in IMAGES[-1].shape[1:])


@every_mode
@pytest.mark.parametrize(
    ("owner", "call"), [(Block, 1), (Block, 2), (Block, 5), (Block, 8), (Refiner, 1), (Refiner, 2)]
)
def test_running_out_of_memory_leaves_the_pictures_as_they_are(
    restorer, mode, owner, call, monkeypatch
):
    expected, seen = alone(restorer, mode), []
    whole, calls = owner.forward, []

    def short(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise torch.OutOfMemoryError("for once")
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(owner, "forward", short)
    found = restored(restorer, mode, tiles=6, on_progress=seen.append)
    assert len(calls) > call
    assert_equal_but_for_rounding(found, expected)
    assert seen[-1].done == seen[-1].total


@every_mode
def test_cancelling_leaves_the_next_call_right(restorer, mode):
    def cancel(progress):
        if 3 * progress.done >= progress.total:
            raise CancelledError

    expected = restored(restorer, mode)
    with pytest.raises(CancelledError):
        restored(restorer, mode, tiles=6, on_progress=cancel)
    assert all(map(torch.equal, restored(restorer, mode), expected))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": [*IMAGES, torch.zeros(2, 8, 8)]}, "2 channels"),
        ({"images": [*IMAGES, torch.full((3, 8, 8), torch.nan)]}, "NaN"),
        ({"masks": [torch.ones(1, 8, 8)]}, "1 masks are given for 6 pictures"),
        ({"masks": [torch.full((1, 8, 8), 2.0)] * 6}, "mask has values"),
    ],
)
def test_one_bad_picture_is_refused_before_the_work(restorer, wrong, message):
    calls = []
    with pytest.raises(ValueError, match=message):
        upscale_each(
            **({"images": IMAGES} | wrong),
            size=2.0,
            restorer=restorer,
            execution=Execution(prepare=lambda: calls.append(1) or 1),
        )
    assert not calls


def test_no_pictures_give_no_pictures(restorer):
    assert upscale_each([], 2.0, restorer) == []


# How many are taken together


def taken(size, canvases):
    batch = PictureBatch(size)
    return [batch.take(canvas) for canvas in canvases], batch


def canvas(rows, columns, mode="phased"):
    """Of so many tiles, each of which overlaps only the next."""
    grid = TileGrid(64 + 48 * (rows - 1), 64 + 48 * (columns - 1), tile=64, overlap=16, align=16)
    assert len(grid) == rows * columns
    return Canvas(1, grid.height, grid.width, grid, mode)


@each(
    ("mode", "rows", "columns", "count"),
    [
        ("phased", 1, 1, 8),
        ("phased", 2, 2, 8),  # one tile in each of four phases
        ("phased", 3, 3, 8),  # 4, 2, 2 and 1
        ("phased", 4, 4, 2),  # 4 in each
        ("phased", 8, 8, 1),
        ("lock-step", 2, 2, 2),
        ("independent", 2, 2, 2),
        ("independent", 3, 3, 1),
    ],
)
def test_pictures_are_taken_while_their_tiles_of_a_phase_fit_at_once(mode, rows, columns, count):
    found, _ = taken(8, [canvas(rows, columns, mode)] * 10)
    assert found[:count] == [True] * count
    assert not found[count]


def test_one_picture_is_taken_however_large_it_is():
    found, batch = taken(1, [canvas(9, 9)])
    assert found == [True]
    assert batch.full


def test_full_means_that_nothing_more_is_taken():
    batch = PictureBatch(2)
    assert batch.take(canvas(2, 1))
    assert not batch.full
    assert batch.take(canvas(1, 1))
    assert batch.full
    assert not batch.take(canvas(1, 1))


def test_pixels_of_pictures_taken_together_are_bounded():
    height, width = 2**12, 2**11
    grid = TileGrid(height, width, tile=width, overlap=0)
    found, _ = taken(100, [Canvas(1, height, width, grid)] * 3)
    assert found == [True, True, False]
    assert 2 * height * width == PIXELS_TOGETHER


@pytest.mark.parametrize(("tiles", "most"), [(1, 1), (4, 4)])
def test_memory_does_not_grow_with_the_number_of_pictures(restorer, tiles, most, monkeypatch):
    """No more of them are enlarged at any time than are worked on together."""
    alive, counts, enlarge = weakref.WeakSet(), [], Canvas.enlarge

    def spy(self, image, reduction=1):
        enlarged = enlarge(self, image, reduction)
        alive.add(enlarged)
        counts.append(len(alive))
        return enlarged

    monkeypatch.setattr(Canvas, "enlarge", spy)
    small = [models.picture(20 + n, 30, seed=n)[0] for n in range(12)]
    restored(restorer, tiles=tiles, images=small)
    assert len(counts) == 12
    assert max(counts) == most
