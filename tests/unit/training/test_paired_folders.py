"""Pairs that lie ready as files."""

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.each import each
from helpers.training import SIZES, settings
from varsr_core.errors import InputError
from varsr_core.images.resize import resize
from varsr_core.training.config import TrainingConfig
from varsr_core.training.data.paired_folders import PairedFolders
from varsr_core.training.data.pictures import batches
from varsr_core.training.run import MODEL_FILE, Training

TILE, SCALE = 8, 2


def save_pair(folder, name, low=(10, 12), scale=SCALE, suffix=".png"):
    """The target says where it is, red the column and green the row; so does the small one."""
    for kind, factor in (("low", 1), ("target", scale)):
        height, width = (side * factor for side in low)
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[..., 0] = np.arange(width) // factor * 5
        pixels[..., 1] = np.arange(height)[:, None] // factor * 7
        pixels[..., 2] = 200 if kind == "target" else 100
        path = folder / kind / f"{name}{suffix if kind == 'low' else '.png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        save_pair(tmp_path, f"p{number}", suffix=".bmp" if number % 2 else ".png")
    return tmp_path


def pairs(folder, **options):
    return PairedFolders(folder / "low", folder / "target", TILE, **options)


@pytest.mark.parametrize("cache", [False, True])
def test_both_show_the_same_place_turned_alike(folder, cache):
    found = pairs(folder, cache=cache)
    turned = set()
    for epoch in range(30):
        lq, target, quality = found[(0, epoch, epoch % 5)]
        assert lq.shape == target.shape == (3, TILE, TILE)
        assert quality == 0
        places = target[:2].unfold(1, SCALE, SCALE).unfold(2, SCALE, SCALE)
        torch.testing.assert_close(places[..., 0, 0], places[..., 1, 1], msg="aligned to the input")
        small = torch.cat((places[..., 0, 0], torch.full((1, 4, 4), 100 / 255)))
        torch.testing.assert_close(lq, resize(small[None], TILE, TILE)[0])
        assert (target[2] == 200 / 255).all()
        turned.add(
            (target[0, 0, 0] > target[0, 0, -1], target[1, 0, 0] > target[1, -1, 0]).__str__()
        )
    assert len(turned) > 3, "mirrored and turned"


def test_same_key_same_sample_with_workers_or_without(folder):
    plain = batches(pairs(folder), 3, seed=1)
    workers = batches(pairs(folder), 3, seed=1, workers=2)
    later = batches(pairs(folder), 3, seed=1, start_step=2)
    first = [next(plain) for _ in range(4)]
    for one, other in zip(first, (next(workers) for _ in range(4)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(next(later)[1], first[2][1])


def test_processes_share_the_pairs(folder):
    parts = [pairs(folder, rank=rank, world_size=2) for rank in range(2)]
    names = [file.target.stem for part in parts for file in part.files]
    assert sorted(names) == [f"p{number}" for number in range(5)]


def test_negatives_are_what_was_given(folder):
    found = pairs(folder, negative_share=0.5)
    samples = [found[(0, epoch, 0)] for epoch in range(60)]
    bad = [sample for sample in samples if sample.quality == 1]
    assert 15 < len(bad) < 45
    assert all(torch.equal(sample.lq, sample.target) for sample in bad)


@each(
    ("change", "told"),
    [
        (lambda f: (f / "low/p1.bmp").unlink(), "'p1'"),
        (lambda f: save_pair(f, "q", scale=3), "divides the tile of 8"),
        (lambda f: save_pair(f, "q", low=(3, 12)), "24x6 pixels"),
        (lambda f: Image.new("RGB", (23, 20)).save(f / "target/p2.png"), "whole multiple"),
    ],
)
def test_what_does_not_fit_is_told_before_training(tmp_path, change, told):
    folder = tmp_path / told.replace(" ", "_")
    for number in range(3):
        save_pair(folder, f"p{number}", suffix=".bmp" if number % 2 else ".png")
    change(folder)
    with pytest.raises(InputError, match=told):
        pairs(folder)


def test_run_learns_from_pairs_and_never_degrades(folder, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("made a pair of its own")

    monkeypatch.setattr("varsr_core.training.data.pairs.make_pair", never)
    config = TrainingConfig(sizes=SIZES, tokenizer=settings(2), isr=settings(2))
    places = folder / "low", folder / "target"
    Training(config, tmp_path / "run", [folder / "target"], [], paired=places).run()
    assert (tmp_path / "run" / "isr" / MODEL_FILE).is_file()
