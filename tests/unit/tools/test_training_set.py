"""The tool that cuts photographs into training crops."""

import csv

import numpy as np
import pytest
from PIL import Image

from tools.nano.training_set import best_crops, crops, detail, write_set


def noise(height, width, deviation=20):
    random = np.random.default_rng(0)
    return random.normal(128, deviation, (height, width, 3)).clip(0, 255).astype(np.uint8)


def test_detail_is_the_mean_difference_from_4x4_means():
    checks = (np.indices((16, 16)).sum(axis=0) % 2 * 20 + 100).astype(np.uint8)
    assert detail(np.stack([checks] * 3, axis=-1)) == pytest.approx(10, rel=1e-3)
    assert detail(np.full((16, 16, 3), 77, np.uint8)) == 0


def test_crops_do_not_overlap_and_lie_inside():
    picture = np.arange(50 * 70).reshape(50, 70, 1).repeat(3, axis=2)
    found = crops(picture, 16)
    assert [crop.shape for crop in found] == [(16, 16, 3)] * (3 * 4)
    values = np.concatenate([crop[..., 0].ravel() for crop in found])
    assert len(np.unique(values)) == len(values)


def test_smooth_pictures_are_halved_before_they_are_given_up():
    coarse = np.kron(noise(40, 40), np.ones((4, 4, 1))).astype(np.uint8)
    assert best_crops(coarse, 32, 3.0, 16)[0] == "half"
    assert best_crops(noise(64, 64), 32, 3.0, 16)[0] == "full"
    assert best_crops(np.full((64, 64, 3), 9, np.uint8), 32, 3.0, 16) == ("none", [])


def test_most_detailed_crops_of_a_picture_are_kept():
    picture = np.concatenate([noise(32, 32, 10), noise(32, 32, 40), noise(32, 32, 20)], axis=1)
    _, kept = best_crops(picture, 32, 3.0, 2)
    assert [round(detail(crop), -1) for crop in kept] == sorted(
        (round(detail(crop), -1) for crop in kept), reverse=True
    )
    assert len(kept) == 2
    assert detail(kept[-1]) > detail(picture[:, :32])


def test_set_has_a_row_for_every_crop(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    Image.fromarray(noise(64, 96)).save(source / "a.png")
    (source / "broken.png").write_bytes(b"no picture")
    count = write_set(tmp_path / "out", [source], [], size=32)
    with (tmp_path / "out" / "manifest.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert count == len(rows) == 6
    for row in rows:
        assert (row["picture"], row["source"], row["size"]) == ("a.png", "photos", "full")
        assert Image.open(tmp_path / "out" / row["file"]).size == (32, 32)
