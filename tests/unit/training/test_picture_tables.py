"""Tables of classes and of scores."""

import logging

import pytest
from PIL import Image

from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.training.data.class_table import read_classes
from varsr_core.training.data.score_table import read_scores


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        path = tmp_path / "data" / "set" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    return tmp_path / "data"


def table(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def short(paths):
    return [path.stem for path in paths]


# Classes


def test_paths_are_below_a_folder_or_absolute(folder):
    text = f"file,class\nset/3.png,5\n{folder}/set/4.png,0\n"
    found = read_classes(table(folder, text), [folder.parent / "none", folder])
    assert found == {folder / "set/3.png": 5, folder / "set/4.png": 0}


@each(
    "text",
    [
        "file,class\nset/1.png,2\n\n\nset/2.png,3\n",
        "file\tclass\nset/1.png\t2\nset/2.png\t3\n",
        "class, note, File\r\n2,a,set/1.png\r\n3,b,set/2.png\r\n",
        '\ufefffile,class\n"set/1.png",2\nset/2.png,3',
    ],
)
def test_commas_tabs_other_columns_and_empty_lines(folder, text):
    found = read_classes(table(folder, text), [folder])
    assert {path.stem: label for path, label in found.items()} == {"1": 2, "2": 3}


@each(
    ("text", "words"),
    [
        ("name,class\na,1\n", r"table\.csv, line 1: found 'name,class', expected the header file,"),
        ("", "line 1: found ''"),
        ("file,class\nset/1.png,1\nset/2.png,x\n", "line 3: found class 'x', expected a whole"),
        ("file,class\nset/1.png,-1\n", "line 2: found class '-1'"),
        ("file,class\nset/1.png,1.0\n", "line 2: found class '1.0'"),
        (f"file,class\nset/1.png,{'9' * 5000}\n", "line 2: found class '9"),
        ("file,class\nset/1.png,7\n", "found class '7', expected a whole number from 0 to 6"),
        ("file,class\nset/1.png\n", "line 2: found 1 values, expected 2"),
        ("file,class\nset/1.png,1\nset/1.png,2\n", "line 3: found class 2 for set/1.png, expe"),
        ("file,class\n", "has a header and no file"),
        ("file,class\na.png,1\nb.png,2\n", "2 of 2 files of .* are missing, the first is a.png"),
    ],
)
def test_faults_of_a_class_table_name_the_line(folder, text, words):
    with pytest.raises(InputError, match=words):
        read_classes(table(folder, text), [folder], num_classes=7)


def test_missing_files_are_counted(folder, caplog):
    text = "file,class\nset/1.png,1\ngone/a.png,1\nset/2.png,1\ngone/b.png,1\n"
    with caplog.at_level(logging.WARNING):
        assert len(read_classes(table(folder, text), [folder])) == 2
    assert "2 of 4 files of" in caplog.text
    assert "the first is gone/a.png" in caplog.text


def test_a_table_that_is_none_is_told(folder):
    with pytest.raises(InputError, match=r"gone\.csv cannot be read as a table with the header"):
        read_classes(folder / "gone.csv", [folder])
    (folder / "binary.csv").write_bytes(b"file,class\n\xff\xfe\n")
    with pytest.raises(InputError, match=r"binary\.csv cannot be read"):
        read_classes(folder / "binary.csv", [folder])


# Scores


def scores(folder, rows, shares=None):
    """Names of the bad and of the good ones of (number, score, set)."""
    lines = [f"set/{number}.png,{score},{name}" for number, score, name in rows]
    text = "\n".join(["file,score,set", *lines])
    rated = read_scores(table(folder, text), [folder], shares)
    return short(rated.bad), short(rated.good)


@each(
    ("name", "share"),
    [
        ("SPAQ", 0.4),
        ("KonIQ", 0.6),
        ("koniq-10k", 0.6),
        ("CLIVE", 0.6),
        ("KADID-10k", 0.6),
        ("kadid10k", 0.6),
        ("FLIVE pictures", 0.6),
        ("flive_patches", 0.5),
        ("AVA", 0.32),
    ],
)
def test_sets_have_their_public_shares(folder, name, share):
    limit = 20 + share * 50
    rows = [(0, 20, name), (1, limit - 0.01, name), (2, limit + 0.01, name), (3, 70, name)]
    assert scores(folder, rows) == (["0", "1"], ["2", "3"])


def test_a_score_at_the_limit_is_good(folder):
    assert scores(
        folder, [(0, 0, "FLIVE patches"), (1, 1, "FLIVE patches"), (2, 2, "FLIVE patches")]
    )[1] == ["1", "2"]


def test_each_set_has_a_range_of_its_own_and_missing_files_count_for_it(folder):
    rows = [(0, 1, "SPAQ"), (1, 6, "SPAQ"), ("gone", 101, "SPAQ"), (2, 1, "AVA"), (3, 6, "AVA")]
    assert scores(folder, rows) == (["0", "1", "2"], ["3"])


def test_other_sets_need_a_share(folder):
    rows = [(0, 1, "Mine"), (1, 5, "Mine"), (2, 9, "Mine")]
    with pytest.raises(
        InputError, match=r"line 2: found set 'Mine', expected one of SPAQ, .*shares"
    ):
        scores(folder, rows)
    assert scores(folder, rows, {"mine": 0.75})[0] == ["0", "1"]
    rows = [(0, 1, "AVA"), (1, 5, "AVA"), (2, 9, "AVA")]
    assert scores(folder, rows, {"AVA": 0.75})[0] == ["0", "1"], "goes before the public one"


@each(
    ("rows", "words"),
    [
        ([(0, "good", "SPAQ")], "line 2: found score 'good', expected a number"),
        ([(0, 1, "SPAQ"), (1, "nan", "SPAQ")], "line 3: found score 'nan'"),
        ([(0, 1, "SPAQ"), (0, 2, "SPAQ")], "line 3: found another score for set/0.png"),
        ([(0, 1, "SPAQ"), (1, 1, "SPAQ")], "no picture of .* has a score below"),
    ],
)
def test_faults_of_a_score_table_name_the_line(folder, rows, words):
    with pytest.raises(InputError, match=words):
        scores(folder, rows)
