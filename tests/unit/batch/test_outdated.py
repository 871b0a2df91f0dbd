"""Results of earlier versions stay; those that may be wrong are named."""

import os
import sqlite3

import numpy as np
import pytest
from PIL import Image

from helpers import batch_files as files
from helpers.tiff_files import save_tiff
from varsr_core.batch import report
from varsr_core.batch.journal import NAME, RULES, TODAY

ORIENTATION = 274


def deep(channels):
    return files.pixels(channels=channels).astype(np.uint16) * 257


def opaque():
    values = files.pixels(channels=4)
    values[..., 3] = 255
    return values


@pytest.fixture
def kinds(tmp_path):
    """Names of pictures, by whether an earlier version may have made them wrong."""
    folder = tmp_path / "in"
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    files.save(folder / "color.png", files.pixels())
    files.save(folder / "photo.jpg", files.pixels())
    files.save(folder / "opaque.png", opaque())
    files.save(folder / "turned.jpg", files.pixels(), exif=turned)
    save_tiff(folder / "deep.tif", deep(3))
    save_tiff(folder / "tiled.tif", files.pixels(), tile=(16, 16))
    save_tiff(folder / "alpha_of_one.tif", opaque().astype(np.uint16) * 257, extra=(2,))
    fine = {path.name for path in folder.iterdir()}
    files.save(folder / "grey.png", files.pixels(channels=1))
    files.save(folder / "grey_as_rgb.png", files.pixels(channels=1).repeat(3, axis=2))
    files.save(folder / "alpha.png", files.pixels(channels=4))
    files.save(folder / "turned.tif", files.pixels(), exif=turned)
    save_tiff(folder / "deep_tiles.tif", deep(3), tile=(16, 16))
    save_tiff(folder / "selection.tif", deep(4), extra=(0,))
    return fine, {path.name for path in folder.iterdir()} - fine


@pytest.fixture
def run(tmp_path, micro_file, capsys):
    """Names of results that a run made, and of those that it doubted."""

    def done(*options):
        options = ("--model", micro_file, *files.QUICK, "--json", *options)
        assert files.command(tmp_path / "in", tmp_path / "out", *options) == 0
        printed = capsys.readouterr().out
        return tuple(
            {os.path.basename(event["output"]) for event in files.events(printed, kind)}
            for kind in ("file", "doubtful")
        )

    return done


def forget_rules(folder):
    """Leaves the journal as an earlier version would have."""
    with sqlite3.connect(folder / NAME) as journal:
        journal.execute("UPDATE files SET stamp = replace(stamp, ?, '')", (RULES + TODAY,))
    journal.close()


def test_what_may_be_wrong_is_named_in_every_run_and_left_as_it_is(tmp_path, kinds, run):
    fine, wrong = kinds
    assert run() == (fine | wrong, set())
    before = files.hashes(tmp_path / "out")
    assert run() == (set(), set())
    forget_rules(tmp_path / "out")
    for _ in range(2):
        assert run() == (set(), wrong)
    assert files.hashes(tmp_path / "out") == before


def test_result_that_was_deleted_is_made_again_and_no_longer_doubted(tmp_path, kinds, run):
    run()
    forget_rules(tmp_path / "out")
    run()
    (tmp_path / "out" / "grey.png").unlink()
    made, doubted = run()
    assert made == {"grey.png"}
    assert doubted == kinds[1] - {"grey.png"}


def test_what_was_looked_into_is_not_looked_into_again(tmp_path, kinds, run, monkeypatch):
    run()
    forget_rules(tmp_path / "out")
    run()
    monkeypatch.setattr("varsr_core.batch.run.doubt_of", lambda job: pytest.fail(job.name))
    assert run() == (set(), kinds[1])


def test_doubts_stay_with_inputs_that_were_moved(tmp_path, kinds, run):
    run()
    forget_rules(tmp_path / "out")
    for time in (1, 2):
        for path in (tmp_path / "in").iterdir():
            os.utime(path, ns=(time, time))
        assert run() == (set(), kinds[1])


def test_a_person_is_told_of_the_first_of_many(tmp_path, kinds, run, micro_file, caplog):
    run()
    forget_rules(tmp_path / "out")
    caplog.clear()
    report.MOST_DOUBTS, before = 2, report.MOST_DOUBTS
    try:
        options = ("--model", micro_file, *files.QUICK)
        assert files.command(tmp_path / "in", tmp_path / "out", *options) == 0
    finally:
        report.MOST_DOUBTS = before
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 3
    assert str(len(kinds[1]) - 2) in told[-1]
