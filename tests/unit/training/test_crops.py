"""The public crops, against PIL by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.training.config import from_plain
from varsr_core.training.data.crops import PublicCrop, RandomCrop
from varsr_core.training.data.pictures import PictureFolder
from varsr_core.training.data.settings import DataSettings


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def cut(crop, pixels, low=False, seed=0):
    return crop(pixels, low, torch.Generator().manual_seed(seed))


def by_hand(pixels, size, box):
    """Resized by Lanczos and cropped, as levels (3, S, S)."""
    image = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS).crop(box)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def either_way(found, expected):
    found = found.mul(255).round().byte()
    return torch.equal(found, expected) or torch.equal(found, expected.flip(2))


def test_good_pictures_have_a_short_side_of_640_and_the_middle_512():
    pixels = noise(700, 1001)
    found = cut(PublicCrop(512), pixels)
    assert found.shape == (3, 512, 512)
    # 640 * 1001 / 700 = 915.2; (915 - 512) / 2 = 201.5, to even; (640 - 512) / 2 = 64
    assert either_way(found, by_hand(pixels, (915, 640), (202, 64, 714, 576)))


def test_bad_pictures_have_a_short_side_of_512():
    pixels = noise(900, 600)
    found = cut(PublicCrop(512), pixels, low=True)
    assert either_way(found, by_hand(pixels, (512, 768), (0, 128, 512, 640)))


@each(
    ("height", "width", "low", "size", "box"),
    [
        (100, 100, False, (80, 80), (8, 8, 72, 72)),
        (70, 100, False, (114, 80), (25, 8, 89, 72)),
        (40, 50, False, (100, 80), (18, 8, 82, 72)),  # enlarged
        (80, 80, False, (80, 80), (8, 8, 72, 72)),  # as it is
        (40, 50, True, (80, 64), (8, 0, 72, 64)),
        (64, 64, True, (64, 64), (0, 0, 64, 64)),
    ],
)
def test_other_tiles_have_the_same_proportions(height, width, low, size, box):
    pixels = noise(height, width)
    assert either_way(cut(PublicCrop(64), pixels, low), by_hand(pixels, size, box))


def test_a_crop_is_mirrored_half_the_time_and_nothing_else_is_random():
    pixels = noise(64, 64)
    found = [cut(PublicCrop(64), pixels, True, seed).mul(255).round().byte() for seed in range(200)]
    plain = torch.from_numpy(pixels).permute(2, 0, 1)
    straight = sum(torch.equal(one, plain) for one in found)
    mirrored = sum(torch.equal(one, plain.flip(2)) for one in found)
    assert straight + mirrored == 200
    assert 65 < mirrored < 135


def test_small_pictures_are_used_by_the_public_crop_alone():
    assert PublicCrop(64).fits(20, 30)
    assert not RandomCrop(64).fits(63, 100)
    assert RandomCrop(64).fits(64, 64)


def test_a_folder_is_cropped_by_class(tmp_path):
    """The low class is not shrunk as much: its middle 64 of 80 pixels would lie further in."""
    for name in ("high", "low"):
        (tmp_path / name).mkdir()
        Image.fromarray(noise(100, 100)).save(tmp_path / name / "a.png")
    folder = PictureFolder([tmp_path / "high"], [tmp_path / "low"], 64, crop=PublicCrop(64))
    high, low = folder[0, 0, 0], folder[0, 0, 1]
    assert (high.quality, low.quality) == (0, 1)
    assert either_way(high.picture, by_hand(noise(100, 100), (80, 80), (8, 8, 72, 72)))
    assert either_way(low.picture, by_hand(noise(100, 100), (64, 64), (0, 0, 64, 64)))


def test_settings_of_data_change_nothing_by_default():
    chosen = DataSettings()
    assert (chosen.crop, chosen.order) == ("random", "process")
    assert chosen.class_table is chosen.score_table is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"crop": "centre"}, "crop is 'centre'; known are random, public"),
        ({"order": "rank"}, "order is 'rank'; known are process, global"),
        ({"class_dropout": 1.5}, "class_dropout is 1.5; it is a share"),
        ({"score_shares": {"X": -1}}, "X is -1; it is a share"),
        ({"shuffle": 0}, "shuffle is 0"),
        ({"shards": "a.tar"}, "data has shards"),
    ],
)
def test_faults_of_the_settings_are_told(values, words):
    with pytest.raises(InputError, match=words):
        from_plain(DataSettings, values, "run.json: data")
