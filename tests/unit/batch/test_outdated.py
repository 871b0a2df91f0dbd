"""Results of earlier versions: those that may be wrong are made again once, all others stay."""

import os
import sqlite3

import numpy as np
import pytest
from PIL import Image

from helpers import batch_files as files
from helpers.tiff_files import save_tiff
from varsr_core.batch.journal import NAME, RULES

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
    def done():
        options = ("--model", micro_file, *files.QUICK, "--json")
        assert files.command(tmp_path / "in", tmp_path / "out", *options) == 0
        found = files.events(capsys.readouterr().out, "file")
        return {os.path.basename(event["output"]) for event in found}

    return done


def forget_rules(folder):
    """Leaves the journal as an earlier version would have."""
    with sqlite3.connect(folder / NAME) as journal:
        journal.execute("UPDATE files SET stamp = replace(stamp, ?, '')", (RULES,))
    journal.close()


def test_only_what_may_be_wrong_is_made_again_and_only_once(tmp_path, kinds, run, caplog):
    fine, wrong = kinds
    assert run() == fine | wrong
    assert run() == set()
    forget_rules(tmp_path / "out")
    assert run() == wrong
    assert f"{len(wrong)} results of an earlier version" in caplog.text
    caplog.clear()
    assert run() == set()
    assert "earlier version" not in caplog.text


def test_a_result_that_was_looked_into_is_not_looked_into_again(tmp_path, kinds, run, monkeypatch):
    run()
    forget_rules(tmp_path / "out")
    run()
    monkeypatch.setattr("varsr_core.batch.journal.is_mended", lambda job: pytest.fail(job.name))
    assert run() == set()


def test_a_moved_input_of_an_earlier_version_is_looked_into(tmp_path, kinds, run):
    _, wrong = kinds
    run()
    forget_rules(tmp_path / "out")
    for path in (tmp_path / "in").iterdir():
        os.utime(path, ns=(1, 1))
    assert run() == wrong
    assert run() == set()
