"""Tar files of pictures: what is in them, where it lies, and what is wrong with them."""

import logging
import os
import tarfile
import tracemalloc

import numpy as np
import pytest

from helpers.each import each
from helpers.shards import encoded, json_of, write_shards, write_tar
from varsr_core.errors import InputError
from varsr_core.training.data import shards as shards_module
from varsr_core.training.data.damage import Damage
from varsr_core.training.data.shard_index import (
    ROW,
    Summary,
    index_file,
    index_shard,
    read_rows,
    read_summary,
    split_name,
    write_index,
)
from varsr_core.training.data.shards import Shards
from varsr_core.training.data.sources import expand_braces, split_sources

PICTURE = encoded()


def shards(*paths, limit=5, **options):
    return Shards(paths, 0, Damage(limit), **{"window": 4, "name": "test", **options})


def labels(path):
    return index_shard(path).rows["label"].tolist()


# Patterns


@each(
    ("pattern", "names"),
    [
        ("a{000..003}.tar", ["a000.tar", "a001.tar", "a002.tar", "a003.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{08..10}-{x,y}", ["08-x", "08-y", "09-x", "09-y", "10-x", "10-y"]),
        ("plain", ["plain"]),
    ],
)
def test_braces_mean_what_they_mean_to_a_shell(pattern, names):
    assert expand_braces(pattern) == names


def test_tar_files_are_told_from_folders(tmp_path):
    paths = write_shards(tmp_path, [1, 1, 1])
    (tmp_path / "odd{1}.tar").write_bytes(paths[0].read_bytes())
    (tmp_path / "folder.tar").mkdir()
    given = [tmp_path, tmp_path / "folder.tar", tmp_path / "{000..001}.tar", tmp_path / "0*.tar"]
    assert split_sources(given) == ([tmp_path, tmp_path / "folder.tar"], paths)
    assert split_sources([tmp_path / "odd{1}.tar"]).shards == [tmp_path / "odd{1}.tar"]


def test_missing_tar_files_are_counted_and_named(tmp_path):
    write_shards(tmp_path, [1, 1])
    with pytest.raises(InputError, match=r"3 of the tar files of .* are missing, .*002\.tar"):
        split_sources([tmp_path / "{000..004}.tar"])
    with pytest.raises(InputError, match=r"1 of the tar files of .*none-\*\.tar"):
        split_sources([tmp_path / "none-*.tar"])


# Layout


def test_rows_lead_to_the_bytes_of_each_picture(tmp_path):
    contents = [encoded((n, 0, 0)) for n in range(5)]
    path = write_tar(tmp_path / "a.tar", [(f"{n}.png", c) for n, c in enumerate(contents)])
    data = path.read_bytes()
    for row, content in zip(index_shard(path).rows, contents, strict=True):
        assert data[row["offset"] : row["offset"] + row["size"]] == content
        with path.open("rb") as file:
            file.seek(row["start"])
            with tarfile.open(fileobj=file) as rest:
                assert rest.next().size == len(content)


@each(
    ("members", "expected"),
    [
        ([("1.jpg", PICTURE), ("1.cls", b"4"), ("2.png", PICTURE)], [4, -1]),
        ([("1.cls", b" 4\n"), ("1.WEBP", PICTURE)], [4]),
        ([("1.json", json_of(**{"class": 3})), ("1.png", PICTURE)], [3]),
        ([("1.json", json_of(**{"class": "3"})), ("1.png", PICTURE)], [-1]),
        ([("1.json", json_of(**{"class": True})), ("1.png", PICTURE)], [-1]),
        ([("1.json", b"[" * 90000), ("1.png", PICTURE)], [-1]),
        ([("1.json", json_of(text="x")), ("1.png", PICTURE)], [-1]),
        ([("1.json", json_of(**{"class": 3})), ("1.png", PICTURE), ("1.cls", b"5")], [5]),
        ([("a/1.png", PICTURE), ("b/1.png", PICTURE)], [-1, -1]),
        ([("1.png", PICTURE), ("1.png", PICTURE)], [-1, -1]),
        (
            [("1.txt", b"words"), ("1.png", PICTURE), ("2.txt", b"words"), ("3.png", PICTURE)],
            [-1, -1],
        ),
        ([("1.png", PICTURE), ("1.mask.png", PICTURE), ("1.jpg", PICTURE)], [-1]),
    ],
)
def test_members_of_the_same_key_are_one_sample(tmp_path, members, expected):
    assert labels(write_tar(tmp_path / "a.tar", members)) == expected


def test_names_are_split_as_webdataset_does(tmp_path):
    """Keys and extensions as WebDataset 1.0.2 gives them."""
    members = {
        "a/1.png": ("a/1", "png"), "a/1.cls": ("a/1", "cls"), "b/1.png": ("b/1", "png"),
        "c.d/x.low.png": ("c.d/x", "low.png"), "c.d/x.high.PNG": ("c.d/x", "high.png"),
        "x/y.z.jpg": ("x/y", "z.jpg"), "q.txt": ("q", "txt"), "r.webp": ("r", "webp"),
    }  # fmt: skip
    assert {name: split_name(name) for name in members} == members
    path = write_tar(tmp_path / "a.tar", [(name, b"1") for name in members])
    found = index_shard(path)
    assert len(found.rows) == 4
    [fault] = found.faults
    assert "has 2 keys without a picture, the first is x/y with z.jpg" in fault


def test_pairs_have_both_pictures(tmp_path):
    members = [("1.low.png", PICTURE), ("1.high.png", PICTURE), ("2.png", PICTURE)]
    rows = index_shard(write_tar(tmp_path / "a.tar", members)).rows
    assert (rows["low_offset"] >= 0).tolist() == [True, False]
    assert rows["offset"][0] > rows["low_offset"][0]


@each(
    ("content", "words"),
    [
        ("empty", "no tar file that can be read in parts"),
        ("text", "no tar file that can be read in parts"),
        ("compressed", "no tar file that can be read in parts"),
        ("no picture", "has no picture: expected are members KEY.jpg"),
    ],
)
def test_what_is_no_tar_file_of_pictures_is_refused(tmp_path, content, words):
    path = write_tar(tmp_path / "a.tar", [("1.txt", b"words")])
    if content == "compressed":
        with tarfile.open(path, "w:gz") as tar:
            tar.add(__file__)
    elif content != "no picture":
        path.write_bytes(b"" if content == "empty" else b"no tar file" * 200)
    with pytest.raises(InputError, match=words):
        index_shard(path)


# Damage


@each(
    ("cut", "samples", "words"),
    [
        (lambda d, rows: d[: rows["offset"][3] + 10], 3, "breaks off within 000003.png"),
        (lambda d, rows: d[: rows["start"][3] + 100], 3, "has no header at byte"),
        (lambda d, rows: d[: rows["start"][3]], 3, None),
        (
            lambda d, rows: d[: rows["start"][3]] + b"x" * 512 + d[rows["start"][3] + 512 :],
            3,
            "has no header at byte",
        ),
    ],
)
def test_a_tar_file_that_breaks_off_gives_what_is_before(tmp_path, cut, samples, words):
    [path] = write_shards(tmp_path, [6], labels=False)
    whole = index_shard(path)
    assert whole.faults == []
    path.write_bytes(cut(path.read_bytes(), whole.rows))
    found = index_shard(path)
    assert np.array_equal(found.rows, whole.rows[:samples])
    assert (words is None) == (found.faults == [])
    assert words is None or words in found.faults[0]


@each("content", [b"x", b"-1", b"", b"\xff", b"9" * 30, b"9" * 9000, b"3000000000"])
def test_a_class_that_is_none_is_told_with_its_member(tmp_path, content):
    members = [(f"{n}.{e}", c) for n in range(3) for e, c in (("png", PICTURE), ("cls", content))]
    found = index_shard(write_tar(tmp_path / "a.tar", members))
    assert found.rows["label"].tolist() == [-1] * 3
    [fault] = found.faults
    assert "a.tar has 3 classes that are none, the first is 0.cls: " in fault


def test_a_damaged_member_is_passed_over_and_told_once(tmp_path, caplog):
    members = [(f"{n}.png", encoded((n, 0, 0))) for n in range(4)]
    members[2] = ("2.png", members[2][1][:44])
    source = shards(write_tar(tmp_path / "a.tar", members))
    with caplog.at_level(logging.WARNING):
        found = [
            next(source.items(0, epoch, place)).pixels[0, 0, 0]
            for epoch in range(3)
            for place in range(4)
        ]
    assert set(found) == {0, 1, 3}
    assert len(caplog.records) == 1
    assert "a.tar: 2.png cannot be read and is passed over" in caplog.text


@each("name", ["1.png", "folder/" + 40 * "long/" + "1.png", "ünï.png"])
def test_a_damaged_member_has_its_whole_name(tmp_path, caplog, name):
    path = write_tar(
        tmp_path / "a.tar", [("0.png", PICTURE), (name, b"broken"), ("2.png", PICTURE)]
    )
    with caplog.at_level(logging.WARNING):
        assert len(list(shards(path).items(0, 0, 0))) == 2
    assert f"a.tar: {name} cannot be read" in caplog.text
    caplog.clear()
    index_file(path).unlink()


def test_too_many_damaged_members_are_an_error(tmp_path):
    members = [(f"{n}.png", b"broken" if n < 3 else PICTURE) for n in range(4)]
    path = write_tar(tmp_path / "a.tar", members)
    assert [len(list(shards(path, limit=3).items(0, 0, 0)))] == [1]
    with pytest.raises(InputError, match=r"\.png is damaged .*, and 2 others were"):
        list(shards(path, limit=2).items(0, 0, 0))


# The index beside a tar file


def test_an_index_is_made_once_and_anew_for_another_file(tmp_path, monkeypatch):
    paths, made = write_shards(tmp_path, [3, 2]), []
    monkeypatch.setattr(
        shards_module, "index_shard", lambda path: (made.append(path), index_shard(path))[1]
    )
    assert len(shards(*paths)) == len(shards(*paths)) == 5
    assert made == paths
    write_shards(tmp_path, [4])
    assert len(shards(*paths)) == 6
    index_file(paths[1]).write_bytes(b"broken")
    assert len(shards(*paths)) == 6
    assert made == [*paths, *paths]


def test_an_index_says_what_the_tar_file_has(tmp_path):
    paths = write_shards(tmp_path, [3, 2])
    index = index_shard(paths[1])
    assert read_summary(paths[1]) is None
    write_index(paths[1], index)
    assert read_summary(paths[1]) == index.summary == Summary(2, 0, 5)
    assert np.array_equal(read_rows(paths[1]), index.rows)


def test_processes_make_indices_from_different_ends(tmp_path, monkeypatch):
    paths, made = write_shards(tmp_path, [1] * 4), []
    monkeypatch.setattr(
        shards_module, "index_shard", lambda path: (made.append(path), index_shard(path))[1]
    )
    shards(*paths, rank=1, world_size=2)
    assert made == [paths[2], paths[3], paths[0], paths[1]]


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(tmp_path, monkeypatch, caplog):
    def refused(*_):
        raise PermissionError("read-only")

    paths = write_shards(tmp_path, [3])
    monkeypatch.setattr(shards_module, "write_index", refused)
    with caplog.at_level(logging.WARNING):
        source = shards(*paths)
    assert "stays in memory" in caplog.text
    assert len(list(source.items(0, 0, 1))) == 3
    assert os.listdir(tmp_path) == ["000.tar"]


def test_pictures_without_a_class_are_told_where_classes_are_wanted(tmp_path):
    paths = write_shards(tmp_path, [3])
    assert shards(*paths).classes == 3
    plain = write_tar(tmp_path / "b.tar", [("1.png", PICTURE)])
    with pytest.raises(InputError, match=r"1 of 1 pictures in .*b\.tar have no class"):
        _ = shards(*paths, plain).classes


# Memory


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_pass_over_a_tar_file_keeps_little_of_each_member(tmp_path):
    few, many = (
        write_tar(tmp_path / f"{n}.tar", [(f"{k}.png", b"x" * 3000) for k in range(n)])
        for n in (100, 1100)
    )
    index_shard(few)
    grown = peak_of(lambda: index_shard(many)) - peak_of(lambda: index_shard(few))
    assert grown / 1000 < 4 * ROW.itemsize, "a TarInfo, or a picture, is thousands of bytes"


def test_memory_does_not_grow_with_the_number_of_tar_files(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "KEPT_ROWS", 1500)
    first = write_tar(tmp_path / "0.tar", [(f"{n}.png", PICTURE) for n in range(200)])
    paths = [tmp_path / f"{n}.tar" for n in range(40)]
    for path in paths:
        path.write_bytes(first.read_bytes())
    shards(*paths)

    def read(number):
        source = shards(*paths[:number])
        for place in range(0, len(source), 50):
            next(source.items(0, 0, place))

    read(40)
    few, many = peak_of(lambda: read(10)), peak_of(lambda: read(40))
    assert (many - few) / 30 < 200 * ROW.itemsize / 4, (
        "of each only where it is and how much it has"
    )
