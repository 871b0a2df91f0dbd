"""Batches of a run: from tar files, folders and tables; resumed, shared out, read by workers."""

import itertools
import json
import logging
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.each import each
from helpers.shards import encoded, numbers_of, write_shards, write_tar
from helpers.training import SIZES, settings
from varsr_core.errors import InputError
from varsr_core.images.resize import resize
from varsr_core.training import __main__ as command
from varsr_core.training.config import TrainingConfig, read_config
from varsr_core.training.data.loading import TrainingData
from varsr_core.training.data.pictures import PictureFolder, batches
from varsr_core.training.data.settings import DataSettings
from varsr_core.training.run import MODEL_FILE, Training

SIZE = 16
METHODS = ["pictures", "pairs", "classes"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """40 pictures in 5 tar files."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, [9, 3, 12, 1, 15])
    return folder / "{000..004}.tar"


@pytest.fixture
def folder(tmp_path):
    for number in range(12):
        path = tmp_path / "pictures" / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded((number, 0, 7), 20))
    return tmp_path / "pictures"


def data(high, low=(), workers=0, negative_share=0.0, seed=0, **chosen):
    config = TrainingConfig(
        seed=seed,
        workers=workers,
        negative_share=negative_share,
        data=DataSettings(**{"shuffle": 8, **chosen}),
    )
    return TrainingData([high], list(low), SIZE, config, torch.device("cpu"))


def take(source, method, steps, batch=4, first=0):
    batches = getattr(source, method)(settings(100, batch=batch), first)
    return list(itertools.islice(batches, steps))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def as_process(monkeypatch):
    """Makes this process one of several."""

    def become(rank, world_size):
        monkeypatch.setattr("torch.distributed.is_initialized", lambda: world_size > 1)
        monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: world_size)

    return become


# Resume, processes, workers


@pytest.mark.parametrize("method", METHODS)
def test_resumed_batches_of_tar_files_are_those_of_an_unbroken_run(shards, method):
    whole = take(data(shards), method, 14)
    for first in (1, 7, 12):
        assert_same(take(data(shards), method, 14 - first, first=first), whole[first:])


@pytest.mark.parametrize("method", METHODS)
def test_processes_share_each_batch_of_tar_files(shards, method, as_process):
    """So that a run goes on with another number of them."""
    whole = take(data(shards), method, 12)
    for processes in (2, 4):
        parts = []
        for rank in range(processes):
            as_process(rank, processes)
            parts.append(take(data(shards), method, 7, first=5))
        together = [
            tuple(torch.cat(pieces) for pieces in zip(*step, strict=True))
            for step in zip(*parts, strict=True)
        ]
        assert_same(together, whole[5:])


def test_processes_share_each_batch_of_folders_where_that_is_asked_for(folder, as_process):
    whole = take(data(folder), "pairs", 5)
    assert_same(take(data(folder, order="global"), "pairs", 5), whole)
    parts = []
    for rank in range(2):
        as_process(rank, 2)
        parts.append(take(data(folder, order="global"), "pairs", 5))
    together = [tuple(map(torch.cat, zip(*step, strict=True))) for step in zip(*parts, strict=True)]
    assert_same(together, whole)


def test_processes_have_parts_of_their_own_where_it_is_not(folder, as_process):
    as_process(1, 2)
    own = PictureFolder([folder], [], SIZE, negative_share=0.0, rank=1, world_size=2)
    expected = list(itertools.islice(batches(own, 2, seed=0), 5))
    assert_same(take(data(folder), "pictures", 5), expected)


@each("method", METHODS)
def test_workers_change_nothing_about_tar_files(shards, method):
    assert_same(take(data(shards, workers=2), method, 5), take(data(shards), method, 5))


def test_another_seed_gives_other_batches_of_tar_files(shards):
    found = [numbers_of(take(data(shards, seed=s), "pictures", 1, 40)[0].pictures) for s in (1, 2)]
    assert sorted(found[0]) == sorted(found[1]) == list(range(40))
    assert found[0] != found[1]


def test_every_picture_of_tar_files_comes_once_an_epoch(shards):
    found = [n for b in take(data(shards), "pictures", 12, 10) for n in numbers_of(b.pictures)]
    epochs = [found[start : start + 40] for start in (0, 40, 80)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_streams_neither_touch_nor_use_the_global_generator(shards):
    found = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            found.append(take(data(shards), "pairs", 3))
            assert torch.equal(torch.get_rng_state(), before)
    assert_same(*found)


# Good and bad


def test_bad_pictures_of_tar_files_are_spread_among_the_good(shards, tmp_path):
    write_shards(tmp_path, [8], first=100)
    found = take(data(shards, [tmp_path / "*.tar"]), "pictures", 6, 8)
    for batch in found:
        assert 1 <= batch.classes.sum() <= 2, "8 of 48"
        bad = [number >= 100 for number in numbers_of(batch.pictures)]
        assert bad == batch.classes.bool().tolist()
    good = take(data(shards, [tmp_path / "*.tar"]), "good_pairs", 6, 8)
    assert not any(batch.classes.any() for batch in good)


def test_folders_and_tar_files_mix(shards, folder):
    found = take(data(shards, [folder]), "pictures", 13, 4)
    assert sum(int(batch.classes.sum()) for batch in found) == 12
    assert {int(b.classes.sum()) for b in found} <= {0, 1, 2}


def test_negatives_are_made_of_tar_files_where_there_are_no_bad_ones(shards):
    share = np.mean(
        [b.classes.float().mean() for b in take(data(shards, negative_share=0.3), "pictures", 50)]
    )
    assert share == pytest.approx(0.3, abs=0.13)


@each("shard", [False, True])
def test_scores_tell_bad_pictures_from_good(folder, tmp_path, shards, shard):
    """Of a folder that has both; the bad folder's good ones are left out."""
    low = tmp_path / "low"
    low.mkdir(exist_ok=True)
    for number in (50, 51, 52):
        (low / f"{number}.png").write_bytes(encoded((number, 0, 7)))
    scores = {"00.png": 1, "01.png": 4, "02.png": 9, "50.png": 2, "51.png": 8}
    lines = [f"{name},{score},FLIVE patches" for name, score in scores.items()]
    (tmp_path / "scores.csv").write_text("\n".join(["file,score,set", *lines]))
    high = [folder, shards] if shard else [folder]
    source = data(folder, [low], score_table=str(tmp_path / "scores.csv"))
    source.high[:] = high
    [batch] = take(source, "pictures", 1, 14 + 40 * shard)
    classes = Counter(zip(numbers_of(batch.pictures), batch.classes.tolist(), strict=True))
    if not shard:  # numbers of tar files begin at 0 too
        bad = {number for number, quality in classes if quality}
        good = {number for number, quality in classes if not quality}
        assert bad == {0, 1, 50, 52}
        assert good == set(range(2, 12))
    assert int(batch.classes.sum()) == 4
    [good] = take(source, "good_pairs", 1, 10 + 40 * shard)
    assert not good.classes.any()


# Pairs


def test_pairs_of_tar_files_are_cropped_at_the_same_place(tmp_path):
    x, y = np.meshgrid(np.arange(20), np.arange(20))
    small = np.stack((x * 10, y * 10, 0 * x), axis=-1).astype(np.uint8)
    for name, pixels in (("low", small), ("high", small.repeat(2, 0).repeat(2, 1))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    members = [(f"1.{n}.png", (tmp_path / f"{n}.png").read_bytes()) for n in ("low", "high")]
    source = data(write_tar(tmp_path / "a.tar", members))
    corners = set()
    for batch in take(source, "pairs", 20, 2):
        for lq, target in zip(batch.lq, batch.target, strict=True):
            part = target[:, ::2, ::2]
            torch.testing.assert_close(part, target[:, 1::2, 1::2])
            torch.testing.assert_close(lq, resize(part[None], SIZE, SIZE)[0])
            corners.add(tuple(target[:2, 0, 0].tolist()))
    assert len(corners) > 10
    assert take(source, "pictures", 1, 1)[0].pictures.shape == (1, 3, SIZE, SIZE)


def test_pairs_that_do_not_fit_and_small_pictures_are_passed_over(tmp_path, caplog):
    small, large = encoded(side=16), encoded((9, 0, 0), side=32)
    members = [
        ("1.low.png", small), ("1.high.png", encoded((1, 0, 0), 32, width=40)),
        ("2.png", encoded((2, 0, 0), side=8)),
        ("3.low.png", small), ("3.high.png", large),
    ]  # fmt: skip
    source = data(write_tar(tmp_path / "a.tar", members))
    with caplog.at_level(logging.WARNING):
        found = take(source, "pairs", 3, 3)
    assert all((batch.target[:, 0] == 9 / 255).all() for batch in found)
    assert len(caplog.records) == 1
    assert "crops of 16x16 do not fit in" in caplog.text
    only = data(write_tar(tmp_path / "b.tar", members[:3]))
    with pytest.raises(InputError, match="none of the next pictures"):
        take(only, "pairs", 1)


# Classes


def test_classes_are_those_of_the_tar_files(shards):
    for batch in take(data(shards, class_dropout=0.0), "classes", 10):
        assert batch.pictures.shape == (4, 3, SIZE, SIZE)
        assert batch.labels.dtype == torch.int64
        assert batch.labels.tolist() == numbers_of(batch.pictures)


@each(("classes", "null"), [(0, 40), (40, 40), (100, 100)])
def test_dropped_classes_become_the_null_row_and_pictures_stay(shards, classes, null):
    kept, dropped = (
        take(data(shards, class_dropout=share, num_classes=classes), "classes", 50)
        for share in (0.0, 0.3)
    )
    for one, other in zip(kept, dropped, strict=True):
        assert torch.equal(one.pictures, other.pictures)
        assert ((other.labels == one.labels) | (other.labels == null)).all()
    share = torch.cat([batch.labels == null for batch in dropped]).float().mean()
    assert share == pytest.approx(0.3, abs=0.13)
    assert data(shards, num_classes=classes).labelled().classes == null


def test_classes_of_a_table_are_those_of_its_files(folder, tmp_path):
    table = tmp_path / "classes.tsv"
    table.write_text("file\tclass\n" + "".join(f"{n:02d}.png\t{n % 3}\n" for n in range(10)))
    source = data(folder, class_table=str(table), class_dropout=0.0)
    found = take(source, "classes", 5)
    numbers = [number for batch in found for number in numbers_of(batch.pictures)]
    assert sorted(numbers) == sorted([*range(10), *range(10)]), "twice all files of the table"
    assert all(
        label == number % 3
        for batch in found
        for number, label in zip(numbers_of(batch.pictures), batch.labels.tolist(), strict=True)
    )
    assert source.labelled().classes == 3


def test_pictures_without_classes_are_refused(folder, shards):
    with pytest.raises(InputError, match="pictures has no classes: name a table"):
        take(data(folder), "classes", 1)
    with pytest.raises(InputError, match="highest class of a picture is 39, and num_classes is 5"):
        take(data(shards, num_classes=5), "classes", 1)


# Faults


def test_tar_files_and_tables_that_are_not_there_are_told_at_once(folder, tmp_path):
    with pytest.raises(InputError, match=r"2 of the tar files of .*\.tar are missing"):
        data(tmp_path / "{0..1}.tar")
    for name in ("class_table", "score_table"):
        with pytest.raises(InputError, match=f"{name} is gone.csv, which is no file"):
            data(folder, **{name: "gone.csv"})


def test_a_folder_without_pictures_is_told(tmp_path, shards):
    (tmp_path / "empty").mkdir()
    source = data(tmp_path / "empty", [shards])
    with pytest.raises(InputError, match="there is no picture in what --data names"):
        take(source, "good_pairs", 1)


def test_workers_share_what_they_found_damaged(tmp_path):
    members = [(f"{n}.png", b"broken" if n < 3 else encoded((n, 0, 7))) for n in range(8)]
    stream = data(write_tar(tmp_path / "a.tar", members)).stream()
    loaded = batches(stream, 4, seed=0, workers=2, ordered=True)
    found = [n for _ in range(4) for n in numbers_of(next(loaded).picture)]
    assert set(found) == {3, 4, 5, 6, 7}
    assert int((stream.sources[0].damage.found >= 0).sum()) == 3


# Crops and settings


def test_public_crops_go_to_every_kind_of_batch(folder, shards):
    for high in (folder, shards):
        source = data(high, crop="public", class_dropout=0.0)
        for method in ("pictures", "pairs"):
            assert take(source, method, 1)[0][0].shape == (4, 3, SIZE, SIZE)
    assert type(source.labelled().pictures.crop).__name__ == "PublicCrop"


def test_random_crops_are_turned_unless_that_is_off(tmp_path):
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[: SIZE // 2] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for turned in (True, False):
        found = take(data(tmp_path, rotations=turned), "pictures", 5, 4)
        upright = [bool(one[:, 0].eq(1).all()) for batch in found for one in batch.pictures]
        assert all(upright) != turned


def test_pictures_too_small_for_a_random_crop_serve_for_a_public_one(tmp_path):
    Image.new("RGB", (10, 12), (9, 0, 0)).save(tmp_path / "a.png")
    [batch] = take(data(tmp_path, crop="public"), "pictures", 1)
    assert (batch.pictures[:, 0] * 255).round().eq(9).all()


def test_a_model_is_trained_on_tar_files(shards, tmp_path):
    config = TrainingConfig(sizes=SIZES, tokenizer=settings(1), pretraining=settings(1))
    Training(config, tmp_path / "run", [shards], []).run()
    assert (tmp_path / "run" / "pretraining" / MODEL_FILE).is_file()


def test_settings_are_read_from_the_file_and_tables_from_the_command(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_text(
        json.dumps({"data": {"crop": "public", "class_table": "a.csv", "score_shares": {"X": 0.3}}})
    )
    assert read_config(path).data == DataSettings(
        crop="public", class_table="a.csv", score_shares={"X": 0.3}
    )
    seen = []

    class Stopped(Exception):
        pass

    def training(config, *_, **__):
        seen.append(config.data)
        raise Stopped

    monkeypatch.setattr(command, "Training", training)
    given = ["--config", str(path), "--data", "x", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["training", *given, "--score-table", "s.csv"])
    with pytest.raises(Stopped):
        command.main()
    [found] = seen
    assert (found.class_table, found.score_table, found.crop) == ("a.csv", "s.csv", "public")
