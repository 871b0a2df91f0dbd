"""tools/evaluate.py: restores a folder and scores it, scores what is there, compares two runs."""

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
    for name in ("stlpips_pytorch", "piq", "pyiqa"):
        monkeypatch.setitem(sys.modules, name, None)  # as where only ComfyUI is installed
    for number, name in enumerate(("a.png", "inner/b.png")):
        files.save(tmp_path / "low" / name, files.pixels(seed=number))

    def done(references=tmp_path / "references", options=()):
        scores = tmp_path / "scores.json"
        arguments = (tmp_path / "low", references, tmp_path / "out", "--scores", scores)
        options = ("--model", micro_file, *files.QUICK, "--scale", 2, *options)
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


def test_measures_are_chosen_by_name_and_noise_is_that_of_the_model(run, tmp_path, monkeypatch):
    for name in ("a.png", "inner/b.png"):
        reference(tmp_path, name, files.pixels(24, 20))
    asked = []

    def noise(picture):
        asked.append(picture.size)
        return 1.5

    monkeypatch.setattr(evaluate.artefacts, "noise_left", noise)
    scores = run(options=("--metrics", "ssim", "noise", "psnr"))
    assert list(scores["a"]) == ["SSIM-Y", "PSNR-Y"]
    assert scores["mean"]["NOISE LEFT"] == 1.5
    assert asked == [(128, 128)]  # the noisy grey, twice as large


def test_what_cannot_be_measured_is_told_before_anything_is_restored(run, tmp_path, capsys):
    for name in ("a.png", "inner/b.png"):
        reference(tmp_path, name, files.pixels(24, 20))
    for metrics, told in (
        (["nothing"], "there is no measure nothing; psnr, ssim"),
        (["st-lpips"], "requirements-evaluate.txt"),
        (["lpips"], "requirements-metrics.txt"),
    ):
        code = run(options=("--metrics", *metrics))
        assert code == NOT_DONE
        assert told in capsys.readouterr().out
    assert run(options=("--border", "-1")) == NOT_DONE
    assert "border is -1" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def saved(folder, count, seed=0, noise=0.0, ending=""):
    """Pictures that differ from those of another noise by it."""
    for number in range(count):
        values = files.pixels(40, 32, seed=number).astype(float)
        spoilt = values + np.random.default_rng([seed, number]).normal(0, noise, values.shape)
        name = f"{number}{ending}.png"
        files.save(folder / name, np.clip(spoilt, 0, 255).astype(np.uint8))
    return folder


def score(*arguments):
    return evaluate.main(["score", *map(str, arguments)])


def test_folders_are_scored_as_they_are_and_an_ending_is_no_hindrance(tmp_path, capsys):
    wanted = saved(tmp_path / "wanted", 3)
    made = saved(tmp_path / "made", 2, noise=5, ending="_x4")
    path = tmp_path / "scores.json"
    arguments = (made, "--references", wanted, "--metrics", "psnr", "--border", "0")
    assert score(*arguments, "--scores", path) == 0
    told, rows = capsys.readouterr().out, json.loads(path.read_text())
    assert "1 of" in told
    assert "have no result: 2" in told
    assert list(rows) == ["0_x4", "1_x4", "mean"]
    weights = np.array([65.481, 128.553, 24.966]) / 255
    expected = 20 * np.log10(255 / (5 * np.linalg.norm(weights)))
    assert rows["mean"]["PSNR-Y"] == pytest.approx(expected, abs=0.5)


def test_without_references_what_needs_none_is_measured(tmp_path, capsys):
    made = saved(tmp_path / "made", 1)
    assert score(made) == 0
    told = capsys.readouterr().out
    assert "NIQE" in told
    assert "PSNR" not in told
    assert "not measured (-): NIQE compares blocks of 96 pixels, and 32x40 has not two" in told
    assert score(made, "--metrics", "psnr", "lr-psnr") == NOT_DONE
    assert "PSNR-Y needs a folder of references" in capsys.readouterr().out


def test_the_noisy_grey_can_be_restored_by_anything(tmp_path, capsys):
    grey = tmp_path / "grey.png"
    assert evaluate.main(["grey", str(grey)]) == 0
    made = saved(tmp_path / "made", 1)
    assert score(made, "--metrics", "noise") == NOT_DONE
    assert "--grey" in capsys.readouterr().out
    assert score(made, "--metrics", "noise", "--grey", grey, "--scores", tmp_path / "s") == 0
    with Image.open(grey) as image:
        expected = np.asarray(image, float)[8:-8, 8:-8, 0].std()
    assert json.loads((tmp_path / "s").read_text())["mean"]["NOISE LEFT"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a.png", "a.jpg"], "have one name"),
        (["c.png"], "there is no c in"),
        ([], "is no folder"),
    ],
)
def test_folders_that_do_not_match_are_refused(tmp_path, capsys, names, told):
    wanted = saved(tmp_path / "wanted", 2)
    for name in names:
        files.save(tmp_path / "made" / name, files.pixels(40, 32))
    assert score(tmp_path / "made", "--references", wanted) == NOT_DONE
    assert told in capsys.readouterr().out


def test_pictures_of_other_sizes_and_files_that_are_none_are_refused(tmp_path, capsys):
    wanted, made = saved(tmp_path / "wanted", 1), tmp_path / "made"
    files.save(made / "0.png", files.pixels(20, 16))
    assert score(made, "--references", wanted) == NOT_DONE
    assert "is 16x20, and its reference" in capsys.readouterr().out
    (made / "0.png").write_bytes(b"no picture")
    assert score(made, "--references", wanted) == NOT_DONE
    assert "cannot be read as a picture" in capsys.readouterr().out


def test_a_picture_called_as_the_row_of_means_is_refused(tmp_path, capsys):
    files.save(tmp_path / "made" / "mean.png", files.pixels(40, 32))
    assert score(tmp_path / "made") == NOT_DONE
    assert "rename it" in capsys.readouterr().out


def compare(*arguments):
    return evaluate.main(["compare", *map(str, arguments)])


def test_two_runs_are_compared_picture_by_picture(tmp_path, capsys):
    wanted = saved(tmp_path / "wanted", 12)
    for name, noise in (("good", 4), ("bad", 9)):
        made = saved(tmp_path / name, 12, seed=noise, noise=noise)
        arguments = (made, "--references", wanted, "--metrics", "psnr", "ssim")
        assert score(*arguments, "--scores", tmp_path / f"{name}.json") == 0
    capsys.readouterr()
    record = tmp_path / "compared.json"
    assert compare(tmp_path / "bad.json", tmp_path / "good.json", "--scores", record) == 0
    told, found = capsys.readouterr().out, json.loads(record.read_text())
    assert "12 pictures in both" in told
    assert found["PSNR-Y"]["verdict"] == found["SSIM-Y"]["verdict"] == "better"
    assert found["PSNR-Y"]["p"] == pytest.approx(2 / 2**12)
    assert found["PSNR-Y"]["p_holm"] == pytest.approx(4 / 2**12)
    assert found["PSNR-Y"]["shift"] == pytest.approx(20 * np.log10(9 / 4), abs=1)
    assert compare(tmp_path / "good.json", tmp_path / "bad.json", "--scores", record) == 0
    assert json.loads(record.read_text())["PSNR-Y"]["verdict"] == "worse"


def test_where_less_is_better_a_rise_is_worse(tmp_path, capsys):
    first, second = (
        {str(number): {"NIQE": number + shift} for number in range(8)} for shift in (0.0, 0.5)
    )
    for name, rows in (("first", first), ("second", second)):
        (tmp_path / name).write_text(json.dumps({**rows, "mean": {}}))
    assert compare(tmp_path / "first", tmp_path / "second") == 0
    told = capsys.readouterr().out
    assert "0/8" in told
    assert "worse" in told


def test_folders_are_compared_and_few_pictures_show_nothing(tmp_path, capsys):
    wanted = saved(tmp_path / "wanted", 4)
    runs = [saved(tmp_path / str(noise), 4, seed=noise, noise=noise) for noise in (3, 9)]
    assert compare(*runs, "--references", wanted, "--metrics", "psnr") == 0
    told = capsys.readouterr().out
    assert "Of 4 pictures nothing can be shown" in told
    assert "no difference shown" in told
    assert "0/4" in told


def test_runs_with_nothing_in_common_and_no_scores_are_refused(tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(json.dumps({"a": {"PSNR-Y": 20.0}, "mean": {}}))
    for rows, told in (
        ({"b": {"PSNR-Y": 1.0}, "mean": {}}, "no picture in common"),
        ({"a": {"NIQE": 1.0}, "mean": {}}, "no measure in common"),
        ([1], "holds no scores"),
    ):
        two.write_text(json.dumps(rows))
        assert compare(one, two) == NOT_DONE
        assert told in capsys.readouterr().out
    assert compare(one, tmp_path / "three") == NOT_DONE
    assert "a file that --scores wrote is expected" in capsys.readouterr().out
