"""Results never take the place of inputs, nor, unasked, of anything else; every name works."""

import os
import sqlite3
import unicodedata

import pytest

from helpers import batch_files as files
from helpers.each import each
from varsr_core.batch import __main__ as program
from varsr_core.batch import disk
from varsr_core.batch.inputs import find_jobs
from varsr_core.batch.journal import NAME
from varsr_core.batch.naming import Naming
from varsr_core.batch.output_format import OutputFormat
from varsr_core.errors import InputError


@pytest.fixture
def run(tmp_path, micro_file, capsys):
    def done(*arguments):
        """Exit code and what was told of files, by their names."""
        options = ("--model", micro_file, *files.QUICK, "--json")
        code = files.command(*arguments, *options)
        told = files.events(capsys.readouterr().out, "file")
        return code, {os.path.basename(event["output"]): event["error"] for event in told}

    return done


@pytest.fixture
def tree(tmp_path):
    files.save(tmp_path / "in/a.png", files.pixels())
    files.save(tmp_path / "in/sub/b.png", files.pixels(seed=1))
    return tmp_path


def jobs_of(inputs, folder, **choices):
    naming = Naming(folder, "{stem}", OutputFormat(), **choices)
    return find_jobs([str(one) for one in inputs], naming, set())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WAYS_OVER = {  # what is linked, to what below the tree; then inputs and output
    "output leads to the input": (("out", "in"), ("in/a.png", "out")),
    "output leads to the input, a pattern": (("out", "in"), ("in/*.png", "out")),
    "output leads to the input, a list": (("out", "in"), ("in/list.txt", "out")),
    "folder in the output leads to one in the input": (("out/sub", "in/sub"), ("in", "out")),
    "input is reached by a link": (("also", "in"), ("also/a.png", "in")),
    "pattern with .. behind a wildcard": (None, ("in/s*/../a.png", "in")),
    ".. behind a wildcard leaves the output": (None, ("in/sub/../*/../../in/a.png", "in/x/..")),
    "link in the input to a file in the output": (("other/a.png", "in/a.png"), ("other", "in")),
}


@each("way", WAYS_OVER)
def test_nothing_is_written_over_an_input(way, tmp_path, run):
    link, (source, output) = WAYS_OVER[way]
    tree = tmp_path / way.replace("/", "-")
    files.save(tree / "in/a.png", files.pixels())
    files.save(tree / "in/sub/b.png", files.pixels(seed=1))
    (tree / "in/list.txt").write_text("a.png\nsub/b.png\n")
    if link is not None:
        (tree / link[0]).parent.mkdir(exist_ok=True)
        (tree / link[0]).symlink_to(tree / link[1])
    before = {path: data for path, data in contents(tree).items() if NAME not in path.name}
    for more in ((), ("--overwrite",)):
        assert run(tree / source, tree / output, *more) == (program.NOT_DONE, {})
        after = contents(tree)
        assert {path: after.get(path) for path in before} == before


def test_nothing_is_written_over_a_mask(tree):
    files.save(tree / "masks/a.png", files.pixels())
    with pytest.raises(InputError, match="written over"):
        jobs_of([tree / "in/a.png"], tree / "masks", mask=tree / "masks")


def test_pattern_with_dots_stays_in_the_result_folder(tree):
    files.save(tree / "c.png", files.pixels())
    jobs, _ = jobs_of([tree / "in/*/../*.png", tree / "in/*/../../*.png"], tree / "deep/out")
    assert [job.name for job in jobs] == ["a.png", "c.png"]


def test_dots_behind_a_link_are_those_of_its_target(tree):
    (tree / "link").symlink_to(tree / "in/sub")
    jobs, _ = jobs_of([tree / "link/../a.png"], tree / "out")
    assert [job.source for job in jobs] == [str(tree / "in/a.png")]


def test_results_of_one_place_are_refused(tree):
    (tree / "in/sub2").mkdir()
    (tree / "in/sub2/b.png").write_bytes((tree / "in/sub/b.png").read_bytes())
    (tree / "out/sub").mkdir(parents=True)
    (tree / "out/sub2").symlink_to("sub")
    with pytest.raises(InputError, match="would both become"):
        jobs_of([tree / "in"], tree / "out")


@each(("first", "second"), [("b.png", "B.png"), ("ss.png", "ß.png"), ("é.png", "é.png")])
def test_names_that_the_file_system_tells_apart_are_two_results(first, second, tmp_path):
    second = unicodedata.normalize("NFD", second)
    folder = tmp_path / first[:-4] / "in"
    folder.mkdir(parents=True)
    (folder / first).touch()
    (folder / second).touch()
    if len(list(folder.iterdir())) == 1:
        pytest.skip("this file system does not")
    jobs, refused = jobs_of([folder], folder.parent / "out")
    assert sorted(job.name for job in jobs) == sorted((first, second))
    assert not refused
    assert sorted(path.name for path in folder.parent.iterdir()) == ["in"]


def test_names_that_the_file_system_does_not_tell_apart_are_refused(tree, monkeypatch):
    monkeypatch.setattr(disk, "_differ", lambda folder, first, second: False)
    files.save(tree / "in/A.png", files.pixels())
    with pytest.raises(InputError, match=r"would both become.*rename one of them"):
        jobs_of([tree / "in"], tree / "out")


def test_names_may_be_as_long_as_the_file_system_allows(tmp_path, run):
    lengths = (234, 235, 244, 255)
    for length in lengths:
        files.save(tmp_path / "in" / ("n" * (length - 4) + ".png"), files.pixels())
    files.save(tmp_path / "in" / ("é" * 125 + ".png"), files.pixels())
    code, told = run(tmp_path / "in", tmp_path / "out")
    assert code == 0
    assert len(told) == len(lengths) + 1
    assert files.left_behind(tmp_path / "out") == []
    code, told = run(tmp_path / "in", tmp_path / "longer", "--name", "{stem}_x")
    assert code == program.SOME_FAILED
    assert sorted(error is None for error in told.values()) == [False, False, True, True, True]
    assert "choose a shorter --name" in next(filter(None, told.values()))


def test_folder_in_a_results_place_or_file_in_its_folders_is_told_before_the_work(tree, run):
    (tree / "out/a.png").mkdir(parents=True)
    (tree / "out/sub").write_text("in the way")
    code, told = run(tree / "in", tree / "out", "--overwrite")
    assert code == program.SOME_FAILED
    assert "a folder is in the result's place" in told["a.png"]
    assert "in the way of the result's folder" in told["b.png"]


def test_foreign_file_in_a_results_place_stays_until_it_may_be_overwritten(tree, run):
    (tree / "out").mkdir()
    (tree / "out/a.png").write_text("mine")
    for _ in range(2):
        code, told = run(tree / "in", tree / "out")
        assert code == program.SOME_FAILED
        assert "--overwrite" in told["a.png"]
        assert (tree / "out/a.png").read_text() == "mine"
    assert (tree / "out/sub/b.png").exists()
    assert run(tree / "in", tree / "out", "--overwrite") == (0, {"a.png": None})
    assert run(tree / "in", tree / "out") == (0, {})
    assert run(tree / "in", tree / "out", "--seed", 1) == (0, {"a.png": None, "b.png": None})


def test_link_in_a_results_place_is_foreign_too(tree, run):
    (tree / "out").mkdir()
    (tree / "out/a.png").symlink_to("nowhere")
    assert run(tree / "in", tree / "out")[0] == program.SOME_FAILED
    assert os.readlink(tree / "out/a.png") == "nowhere"


def test_results_without_their_journal_are_foreign_and_told_so(tree, run):
    assert run(tree / "in", tree / "out")[0] == 0
    before = files.hashes(tree / "out")
    (tree / "out" / NAME).unlink()
    code, told = run(tree / "in", tree / "out")
    assert code == program.SOME_FAILED
    assert all("journal of this folder is missing" in error for error in told.values())
    assert files.hashes(tree / "out") == before
    assert run(tree / "in", tree / "out", "--overwrite")[0] == 0


def test_failed_file_leaves_no_claim_on_its_place(tree, run):
    (tree / "in/a.png").write_text("broken")
    assert run(tree / "in", tree / "out")[0] == program.SOME_FAILED
    (tree / "out/a.png").write_text("made by hand")
    files.save(tree / "in/a.png", files.pixels())
    code, told = run(tree / "in", tree / "out")
    assert code == program.SOME_FAILED
    assert "--overwrite" in told["a.png"]


def test_result_that_a_killed_run_could_not_note_is_its_own(tree, run):
    assert run(tree / "in", tree / "out")[0] == 0
    with sqlite3.connect(tree / "out" / NAME) as journal:
        journal.execute("DELETE FROM files WHERE name = 'a.png'")
    journal.close()
    assert run(tree / "in", tree / "out") == (0, {"a.png": None})


def test_results_of_the_first_version_are_its_own(tree, run):
    assert run(tree / "in", tree / "out")[0] == 0
    with sqlite3.connect(tree / "out" / NAME) as journal:
        journal.execute("DROP TABLE own")
        journal.execute("UPDATE files SET error = 'it failed later'")
    journal.close()
    assert run(tree / "in", tree / "out") == (0, {"a.png": None, "b.png": None})


def test_output_with_dots_behind_a_link_is_the_system_s(tree, run):
    (tree / "link").symlink_to(tree / "in/sub")
    assert run(tree / "in/sub", tree / "link/../out") == (0, {"b.png": None})
    assert (tree / "in/out/b.png").exists()
    assert run(tree / "in/a.png", tree / "link/..") == (program.NOT_DONE, {})
