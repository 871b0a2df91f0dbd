"""tools/evaluate.py: restores a folder and scores it, in one command."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from helpers import batch_files as files
from tools import evaluate
from varsr_core.batch.__main__ import NOT_DONE

EXACT = 10 * np.log10(255**2 / 1e-10)


@pytest.fixture
def run(tmp_path, micro_file, monkeypatch):
    """Scores by name and title, after the command over two pictures, of which one is in a folder"""
    for name in ("stlpips_pytorch", "piq"):
        monkeypatch.setitem(sys.modules, name, None)  # as where only ComfyUI is installed
    for number, name in enumerate(("a.png", "inner/b.png")):
        files.save(tmp_path / "low" / name, files.pixels(seed=number))

    def done(references=tmp_path / "references"):
        scores = tmp_path / "scores.json"
        arguments = (tmp_path / "low", references, tmp_path / "out", "--scores", scores)
        options = ("--model", micro_file, *files.QUICK, "--scale", 2)
        code = evaluate.main([str(argument) for argument in (*arguments, *options)])
        return json.loads(scores.read_text()) if scores.exists() else code

    return done


def reference(tmp_path, name, values):
    return files.save(tmp_path / "references" / name, values)


def test_results_are_scored_against_references_of_the_same_name(run, tmp_path, capsys):
    for name in ("a.png", "inner/b.png"):
        reference(tmp_path, name, files.pixels(24, 20))
    run()
    reference(tmp_path, "a.png", files.read(tmp_path / "out/a.png"))
    noise = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)
    reference(tmp_path, "inner/b.png", noise)
    scores = run()
    assert scores["a"]["PSNR-Y"] == pytest.approx(EXACT)
    made = files.read(tmp_path / "out/inner/b.png")[4:-4, 4:-4].astype(float)
    differences = (made - noise[4:-4, 4:-4]) @ np.array([65.481, 128.553, 24.966]) / 255
    expected = 10 * np.log10(255**2 / (differences**2).mean())
    assert scores["inner/b"]["PSNR-Y"] == pytest.approx(expected)
    assert scores["mean"]["PSNR-Y"] == pytest.approx((EXACT + expected) / 2)
    told = capsys.readouterr().out
    assert "left out: " in told
    assert "requirements-evaluate.txt" in told
    assert f"{expected:.4g}" in told


def test_faithfulness_is_that_of_the_result_brought_back_to_its_input(run, tmp_path):
    for name in ("a.png", "inner/b.png"):
        reference(tmp_path, name, files.pixels(24, 20))
    found = run()["a"]["LR-PSNR"]
    with Image.open(tmp_path / "out/a.png") as image:
        back = np.array(image.resize((10, 12), Image.Resampling.BICUBIC), float)
    low = files.read(tmp_path / "low/a.png")
    differences = (back - low) @ np.array([65.481, 128.553, 24.966]) / 255
    assert found == pytest.approx(10 * np.log10(255**2 / (differences**2).mean()))


def test_what_cannot_be_scored_is_not_restored(run, tmp_path, capsys):
    reference(tmp_path, "a.png", files.pixels(24, 20))
    assert run() == NOT_DONE
    assert "there is no inner/b in" in capsys.readouterr().out
    reference(tmp_path, "inner/b.png", files.pixels(12, 10))
    assert run() == NOT_DONE
    assert "would be 20x24, and its reference is 10x12" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
