"""Journals: continued, or refused with the right advice; folders that are lost, shared, nested."""

import os
import shutil
import sqlite3

import pytest

from helpers import batch_files as files
from helpers.each import each
from varsr_core.batch import __main__ as program
from varsr_core.batch.journal import NAME, VERSION, Journal
from varsr_core.batch.part_files import ENDING, remove_parts
from varsr_core.errors import InputError


@pytest.fixture
def run(tmp_path, micro_file, capsys):
    for number in range(3):
        files.save(tmp_path / f"in/p{number}.png", files.pixels(seed=number))

    def done(*options, output=tmp_path / "out"):
        arguments = ("--model", micro_file, *files.QUICK, "--json", *options)
        code = files.command(tmp_path / "in", output, *arguments)
        return code, len(files.events(capsys.readouterr().out, "file"))

    return done


def test_journal_has_a_version_and_one_without_is_continued(run, tmp_path):
    assert run() == (0, 3)
    with sqlite3.connect(tmp_path / "out" / NAME) as journal:
        assert journal.execute("PRAGMA user_version").fetchone() == (VERSION,)
        journal.execute("PRAGMA user_version = 0")
        journal.execute("DROP TABLE own")
    journal.close()
    assert run() == (0, 0)


def test_journal_of_a_later_version_is_refused(run, tmp_path, caplog):
    run()
    with sqlite3.connect(tmp_path / "out" / NAME) as journal:
        journal.execute(f"PRAGMA user_version = {VERSION + 1}")
    journal.close()
    before = (tmp_path / "out" / NAME).read_bytes()
    assert run() == (program.NOT_DONE, 0)
    assert "update the pack" in caplog.text
    assert (tmp_path / "out" / NAME).read_bytes() == before


@each("start", [0, 100, 4096, 9000])
def test_damaged_journal_is_told_and_nothing_is_done(start, run, tmp_path, caplog):
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    caplog.clear()
    run()
    path = tmp_path / "out" / NAME
    data = bytearray(path.read_bytes())
    data[start : start + 3000] = bytes(range(256)) * 12
    path.write_bytes(data)
    before = files.hashes(tmp_path / "out")
    assert run("--overwrite") == (program.NOT_DONE, 0)
    assert "damaged" in caplog.text
    assert files.hashes(tmp_path / "out") == before


def test_truncated_journal_is_told(run, tmp_path, caplog):
    run()
    path = tmp_path / "out" / NAME
    path.write_bytes(path.read_bytes()[:5000])
    assert run() == (program.NOT_DONE, 0)
    assert "damaged" in caplog.text


@each("table", ["other (a)", "files (a, b)", "own (a)"])
def test_database_of_another_program_is_refused(table, run, tmp_path, caplog):
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    caplog.clear()
    (tmp_path / "out").mkdir()
    with sqlite3.connect(tmp_path / "out" / NAME) as journal:
        journal.execute(f"CREATE TABLE {table}")
    journal.close()
    before = (tmp_path / "out" / NAME).read_bytes()
    assert run() == (program.NOT_DONE, 0)
    assert "another program" in caplog.text
    assert (tmp_path / "out" / NAME).read_bytes() == before


def test_pipe_and_folder_in_the_journals_place_are_refused(tmp_path):
    os.mkfifo(tmp_path / NAME)
    (tmp_path / "other" / NAME).mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "other"):
        with pytest.raises(InputError, match="not a file"):
            Journal(folder)


@each("again", [False, True])
def test_result_folder_that_is_deleted_during_the_run_is_noticed(
    again, run, tmp_path, monkeypatch, caplog
):
    out = tmp_path / f"out{again}"
    caplog.clear()

    def delete(report, job, outcome):
        shutil.rmtree(out)
        if again:
            out.mkdir()
            (out / NAME).touch()

    with monkeypatch.context() as patched:
        patched.setattr(program.JSONReport, "file", delete)
        assert run(output=out)[0] == program.NOT_DONE
    assert "moved or deleted during the run" in caplog.text


def test_parts_of_runs_in_a_folder_below_stay(tmp_path):
    Journal(tmp_path / "inner/out").close()
    for folder in ("inner", "inner/out", "inner/out/sub"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f".x{ENDING}").touch()
    (tmp_path / f".folder{ENDING}").mkdir()
    remove_parts(tmp_path)
    left = sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob(f".x{ENDING}"))
    assert left == ["inner/out", "inner/out/sub"]
    remove_parts(tmp_path / "inner/out")
    assert not list(tmp_path.rglob(f".x{ENDING}"))


def test_two_runs_on_one_folder_are_told_apart_also_through_a_link(run, tmp_path, caplog):
    run()
    (tmp_path / "link").symlink_to("out")
    held = sqlite3.connect(tmp_path / "out" / NAME, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    assert run(output=tmp_path / "link") == (program.NOT_DONE, 0)
    assert "another run works on" in caplog.text
    held.close()
    assert run(output=tmp_path / "link") == (0, 0)
