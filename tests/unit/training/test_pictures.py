import itertools
import logging
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import models
from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.images.resize import resize as resize_clamped
from varsr_core.tiling.noise import derive_seed
from varsr_core.training.data.degradation import PUBLISHED, RESIZE_MODES, degrade, resize
from varsr_core.training.data.pictures import (
    PictureFolder,
    batches,
    find_pictures,
    make_negative,
    make_pair,
)

SIZE = 16


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def save(path, height=30, width=40, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = models.picture(height, width, seed=seed)[0].mul(255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)
    return path


def map_of_places(height, width):
    """A picture whose red is the column and green the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return pixels


@pytest.fixture
def folder(tmp_path):
    for number in range(7):
        save(tmp_path / "high" / f"{number}.png", seed=number)
    return tmp_path / "high"


def plain(folder, low=(), **options):
    """Whole samples of class 0, as they are in the files."""
    options = {"negative_share": 0.0, "flips": False, "rotations": False} | options
    return PictureFolder([folder], low, SIZE, **options)


def take(iterator, number):
    return list(itertools.islice(iterator, number))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.picture, other.picture)
        assert torch.equal(torch.as_tensor(one.quality), torch.as_tensor(other.quality))


# Files


def test_pictures_are_found_in_folders_of_folders_and_by_globs(tmp_path):
    names = ["a.png", "b/c.JPG", "b/d/e.webp", "b/d/f.bmp", "g.tif", "h.jpeg"]
    paths = sorted(save(tmp_path / name) for name in names)
    (tmp_path / "b" / "notes.txt").write_text("no picture")
    assert find_pictures([tmp_path]) == paths
    assert find_pictures([str(tmp_path / "*.png"), tmp_path / "b" / "d"]) == [
        tmp_path / "a.png",
        tmp_path / "b" / "d" / "e.webp",
        tmp_path / "b" / "d" / "f.bmp",
    ]
    assert find_pictures([tmp_path, tmp_path / "b"]) == paths


def test_a_folder_with_brackets_in_its_name_is_no_glob(tmp_path):
    path = save(tmp_path / "set [1]" / "a.png")
    assert find_pictures([tmp_path / "set [1]"]) == [path]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="absent is no folder or file"):
        PictureFolder([tmp_path / "absent"], [], SIZE)


def test_drawing_that_is_called_a_picture_is_skipped(folder):
    """Pillow would run another program to read it."""
    save(folder / "drawing.eps").rename(folder / "drawing.png")
    assert len(plain(folder)) == len(list(folder.iterdir())) - 1


def test_small_and_unreadable_pictures_are_skipped_and_counted(folder, caplog):
    save(folder / "thin.png", SIZE - 1, 100)
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(folder / "deep.png")
    with caplog.at_level(logging.WARNING):
        dataset = plain(folder)
    assert len(dataset) == 7
    assert "4 of 11 pictures skipped: 1 smaller than 16x16, 3 unreadable" in caplog.text


@pytest.mark.parametrize("cache", [False, True])
def test_a_picture_that_breaks_off_is_passed_over_and_logged_once(folder, caplog, cache):
    path = save(folder / "3.png", 200, 200)
    path.write_bytes(path.read_bytes()[:2000])
    with caplog.at_level(logging.WARNING):
        dataset = plain(folder, cache=cache)
        samples = [dataset[0, epoch, i] for epoch in range(3) for i in range(len(dataset))]
    assert all(sample.picture.shape == (3, SIZE, SIZE) for sample in samples)
    assert len(caplog.records) == 1
    assert ("1 unreadable" if cache else "3.png cannot be read") in caplog.text


def test_a_folder_without_a_usable_picture_is_refused(tmp_path):
    save(tmp_path / "small.png", 8, 8)
    with pytest.raises(InputError, match="none of 1 pictures is readable and at least 16x16"):
        plain(tmp_path)


def test_files_that_vanish_all_at_once_are_an_error_and_no_endless_loop(folder):
    dataset = plain(folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(InputError, match="none of 7 pictures can be read"):
        dataset[0]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_pictures_of_any_kind_become_rgb(tmp_path, mode):
    name = "a.tif" if mode == "CMYK" else "a.png"
    with Image.open(save(tmp_path / "source" / "a.png", SIZE, SIZE)) as image:
        image.convert(mode).save(tmp_path / name)
    picture = plain(tmp_path / name)[0].picture
    assert picture.shape == (3, SIZE, SIZE)
    assert picture.std() > 0.05


def test_pictures_are_turned_upright(tmp_path):
    pixels = map_of_places(SIZE, SIZE)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    found = plain(tmp_path)[0].picture.mul(255).round().byte()
    expected = torch.from_numpy(pixels).permute(2, 0, 1).rot90(-1, (1, 2))
    assert torch.equal(found, expected)


# Samples


def test_crops_lie_inside_the_picture_and_reach_all_of_it(tmp_path):
    Image.fromarray(map_of_places(SIZE + 2, SIZE + 4)).save(tmp_path / "a.png")
    dataset, corners = plain(tmp_path), set()
    for epoch in range(300):
        crop = dataset[0, epoch, 0].picture.mul(255).round().long()
        left, top = crop[0, 0, 0].item(), crop[1, 0, 0].item()
        assert torch.equal(crop[0], (left + torch.arange(SIZE)).expand(SIZE, SIZE))
        assert torch.equal(crop[1], (top + torch.arange(SIZE))[:, None].expand(SIZE, SIZE))
        corners.add((left, top))
    assert corners == set(itertools.product(range(5), range(3)))


@pytest.mark.parametrize(
    ("flips", "rotations", "variants"),
    [(False, False, 1), (True, False, 2), (False, True, 4), (True, True, 8)],
)
def test_flips_and_rotations_all_occur(tmp_path, flips, rotations, variants):
    save(tmp_path / "a.png", SIZE, SIZE)
    dataset = plain(tmp_path, flips=flips, rotations=rotations)
    pictures = {tuple(dataset[0, e, 0].picture.flatten().tolist()) for e in range(100)}
    assert len(pictures) == variants


@each("cache", [False, True])
def test_a_sample_depends_on_seed_epoch_and_index_alone(folder, cache):
    dataset, again = (PictureFolder([folder], [], SIZE, cache=c) for c in (False, cache))
    keys = list(itertools.product((0, 1), (0, 5), range(7)))
    first = {key: dataset[key] for key in keys}
    for key in reversed(keys):
        assert_same([again[key]], [first[key]])
    assert len({tuple(s.picture.flatten().tolist()) for s in first.values()}) == len(keys)


def test_samples_are_float_pictures_in_range(folder):
    for index in range(7):
        picture, quality = PictureFolder([folder], [], SIZE, negative_share=0.5)[index]
        assert picture.dtype == torch.float32
        assert picture.shape == (3, SIZE, SIZE)
        assert picture.is_contiguous()
        assert 0 <= picture.min() <= picture.max() <= 1
        assert quality in (0, 1)


def test_draws_never_change_between_versions(tmp_path):
    """A run that was begun with an older version goes on as it would have."""
    Image.fromarray(map_of_places(SIZE + 20, SIZE + 30)).save(tmp_path / "a.png")
    for epoch in range(5):
        generator = seeded(derive_seed(3, "sample", epoch, 0))
        top, left = (int(torch.randint(n, (), generator=generator)) for n in (21, 31))
        flip, turns = torch.randint(4, (2,), generator=generator).tolist()
        x, y = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy")
        expected = torch.stack((left + x, top + y))
        expected = (expected.flip(2) if flip % 2 else expected).rot90(turns, (1, 2))
        found = plain(tmp_path, flips=True, rotations=True)[3, epoch, 0].picture
        assert torch.equal(found[:2].mul(255).round().long(), expected)


def test_an_index_outside_is_refused(folder):
    with pytest.raises(IndexError, match="index 7 is outside 0 to 6"):
        plain(folder)[7]


def test_pictures_of_the_low_folder_are_of_class_1_as_they_are(folder, tmp_path):
    low = save(tmp_path / "low" / "a.png", SIZE, SIZE, seed=50)
    dataset = plain(folder, [low])
    assert [dataset[i].quality for i in range(8)] == [0] * 7 + [1]
    stored = torch.from_numpy(np.array(Image.open(low))).permute(2, 0, 1) / 255
    assert torch.equal(dataset[7].picture, stored)


@each("share", [0.0, 0.3, 1.0])
def test_negatives_have_their_share(folder, share):
    dataset = plain(folder, negative_share=share)
    classes = [dataset[0, epoch, i].quality for epoch in range(60) for i in range(7)]
    deviation = math.sqrt(share * (1 - share) / len(classes))
    assert np.mean(classes) == pytest.approx(share, abs=4.5 * deviation)


def test_a_negative_is_a_degraded_version_of_the_same_crop(folder):
    good, bad = plain(folder)[3], plain(folder, negative_share=1.0)[3]
    assert (good.quality, bad.quality) == (0, 1)
    assert not torch.equal(good.picture, bad.picture)
    assert (good.picture.mean() - bad.picture.mean()).abs() < 0.1


def test_crops_that_cannot_be_degraded_are_refused(folder):
    with pytest.raises(InputError, match="crops of 18 pixels cannot be degraded at scale 4"):
        PictureFolder([folder], [], 18)
    assert PictureFolder([folder], [], 18, negative_share=0.0)[0].picture.shape == (3, 18, 18)


def test_cached_pictures_need_their_files_no_more(folder):
    dataset, expected = plain(folder, cache=True), plain(folder)[2]
    for path in folder.iterdir():
        path.unlink()
    assert_same([dataset[2]], [expected])


def test_processes_share_the_pictures_out(folder):
    whole = plain(folder).files
    parts = [plain(folder, rank=rank, world_size=3).files for rank in range(3)]
    assert sorted(itertools.chain(*parts)) == whole
    assert {len(part) for part in parts} == {2, 3}


def test_a_dataset_can_be_sent_to_another_process(folder):
    dataset = PictureFolder([folder], [], SIZE)
    dataset[0]
    assert_same([pickle.loads(pickle.dumps(dataset))[1]], [dataset[1]])


# Zoom


def step_of(crop):
    """Columns and rows of the source from one pixel of a map of places to the next."""
    inner = crop.mul(255)[:, 4:-4, 4:-4]  # borders are resampled from fewer pixels
    across, down = inner[0].diff(dim=1), inner[1].diff(dim=0)
    assert across.std() < 0.1
    assert down.std() < 0.1
    return across.mean().item(), down.mean().item()


@pytest.mark.parametrize("zoom", [0.9, 0.6, 0.3])
def test_larger_crops_are_shrunk_by_factors_down_to_the_zoom(tmp_path, zoom):
    Image.fromarray(map_of_places(70, 90)).save(tmp_path / "a.png")
    dataset = plain(tmp_path, zoom=zoom)
    steps = []
    for epoch in range(150):
        crop = dataset[0, epoch, 0].picture
        assert crop.shape == (3, SIZE, SIZE)
        across, down = step_of(crop)
        assert across == pytest.approx(down, abs=0.01), "the aspect is kept"
        steps.append(across)
    half = 0.5 / SIZE  # sides are whole pixels
    assert 1 - half < min(steps) < 1.05 + half
    assert 0.9 / zoom < max(steps) < 1 / zoom + half + 0.01
    factors = [1 / step for step in steps]
    assert np.mean(factors) == pytest.approx((1 + zoom) / 2, abs=0.25 * (1 - zoom))


def test_shrunk_crops_lie_inside_the_picture_and_reach_all_of_it(tmp_path):
    Image.fromarray(map_of_places(SIZE + 12, SIZE + 20)).save(tmp_path / "a.png")
    dataset = plain(tmp_path, zoom=0.6)
    crops = torch.stack([dataset[0, epoch, 0].picture for epoch in range(400)]).mul(255)
    for channel, length in ((0, SIZE + 20), (1, SIZE + 12)):
        assert crops[:, channel].min() >= -0.01
        assert crops[:, channel].max() <= length - 1 + 0.01
        assert crops[:, channel].min() < 0.5
        assert crops[:, channel].max() > length - 1.5


def test_shrinking_takes_away_what_is_too_fine(tmp_path):
    checks = (np.indices((120, 120)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(np.stack([checks] * 3, axis=-1)).save(tmp_path / "a.png")
    contrast = [plain(tmp_path, zoom=0.4)[0, e, 0].picture.std().item() for e in range(60)]
    assert max(contrast) > 0.3
    assert min(contrast) < 0.05


def test_a_picture_no_larger_than_a_crop_is_not_shrunk(tmp_path):
    path = save(tmp_path / "a.png", SIZE, 100)
    dataset = plain(tmp_path, zoom=0.5)
    stored = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
    windows = stored.unfold(2, SIZE, 1).movedim(2, 0)
    for epoch in range(10):
        assert (windows == dataset[0, epoch, 0].picture).flatten(1).all(dim=1).any()


def test_a_zoom_of_1_is_no_zoom(folder):
    assert_same(
        [PictureFolder([folder], [], SIZE, zoom=1.0)[k] for k in range(7)],
        [PictureFolder([folder], [], SIZE)[k] for k in range(7)],
    )


@each("cache", [False, True])
def test_shrunk_crops_depend_on_seed_epoch_and_index_alone(folder, cache):
    first, again = (PictureFolder([folder], [], SIZE, zoom=0.5, cache=c) for c in (False, cache))
    keys = list(itertools.product((0, 1), (0, 5), range(7)))
    expected = {key: first[key] for key in keys}
    for key in reversed(keys):
        assert_same([again[key]], [expected[key]])
    assert len({tuple(s.picture.flatten().tolist()) for s in expected.values()}) == len(keys)


def test_shrunk_crops_are_pictures_in_range(folder):
    for index in range(7):
        picture, _ = PictureFolder([folder], [], SIZE, negative_share=0.5, zoom=0.5)[index]
        assert picture.dtype == torch.float32
        assert picture.is_contiguous()
        assert 0 <= picture.min() <= picture.max() <= 1


# Batches


def test_batches_hold_pictures_and_classes(folder):
    batch = next(batches(plain(folder), 3, seed=0))
    assert batch.picture.shape == (3, 3, SIZE, SIZE)
    assert batch.quality.shape == (3,)
    assert batch.quality.dtype == torch.int64


@each("zoom", [1.0, 0.5])
def test_resumed_batches_are_those_of_an_unbroken_run(folder, zoom):
    dataset = PictureFolder([folder], [], SIZE, zoom=zoom)
    whole = take(batches(dataset, 3, seed=4), 8)
    for start in (1, 5):
        assert_same(take(batches(dataset, 3, 4, start), 8 - start), whole[start:])


def test_workers_change_nothing(folder):
    dataset = PictureFolder([folder], [], SIZE, zoom=0.5)
    alone = take(batches(dataset, 2, seed=4), 4)
    assert_same(take(batches(dataset, 2, seed=4, workers=2), 4), alone)


def test_another_seed_gives_other_batches(folder):
    first, second = (next(batches(plain(folder), 3, seed)) for seed in (1, 2))
    assert not torch.equal(first.picture, second.picture)


def test_every_picture_comes_once_an_epoch(tmp_path):
    for number in range(6):
        Image.new("RGB", (SIZE, SIZE), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
    seen = torch.cat([b.picture[:, 0, 0, 0] for b in take(batches(plain(tmp_path), 4, seed=0), 6)])
    epochs = seen.mul(255 / 40).round().long().view(4, 6).tolist()
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_batches_neither_touch_nor_use_the_global_generator(folder):
    dataset, found = PictureFolder([folder], [], SIZE), []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            found.append(take(batches(dataset, 3, seed=4), 3))
            assert torch.equal(torch.get_rng_state(), before)
    assert_same(*found)


# Pairs


def test_low_quality_is_a_degraded_picture_enlarged_in_one_of_three_ways():
    hr = models.picture(32, 48, images=24)
    lq, target = make_pair(hr, PUBLISHED, seeded(3))
    assert target is hr
    assert lq.shape == hr.shape
    assert 0 <= lq.min() <= lq.max() <= 1
    counts = dict.fromkeys(RESIZE_MODES, 0)
    for found, small in zip(lq, degrade(hr, PUBLISHED, seeded(3)), strict=True):
        ways = {mode: resize(small, 32, 48, mode) for mode in ("area", "bilinear")}
        ways["bicubic"] = resize_clamped(small[None], 32, 48)[0]
        matching = [mode for mode, way in ways.items() if torch.equal(way, found)]
        assert len(matching) == 1
        counts[matching[0]] += 1
    assert min(counts.values()) >= 2


@pytest.mark.parametrize("make", [lambda *given: make_pair(*given)[0], make_negative])
def test_pairs_and_negatives_depend_on_the_generator_alone(make):
    hr = models.picture(32, 32, images=3)
    before = torch.get_rng_state()
    first, again, other = (make(hr, PUBLISHED, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_negative_has_lost_fine_detail():
    hr = models.picture(64, 64, images=8)
    negative = make_negative(hr, PUBLISHED, seeded())
    assert negative.shape == hr.shape
    assert 0 <= negative.min() <= negative.max() <= 1

    def finest(images):
        return (images[..., 1:] - images[..., :-1]).abs().mean()

    assert finest(negative) < 0.7 * finest(hr)
