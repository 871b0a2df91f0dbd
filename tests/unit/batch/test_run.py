"""Whole runs of the command: right, resumable, and honest about what failed."""

import errno
import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import batch_files as files
from helpers import film_files as films
from helpers import models
from varsr_core.batch import __main__ as program
from varsr_core.batch import model
from varsr_core.batch.journal import NAME
from varsr_core.batch.pictures import restorer as pictures
from varsr_core.files import atomic as whole_file
from varsr_core.runtime import device
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings


@pytest.fixture
def folder(tmp_path):
    """Three pictures."""
    for number in range(3):
        files.save(tmp_path / f"in/p{number}.png", files.pixels(seed=number))
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(folder, out, micro_file, capsys):
    """Runs over the folder; returns the exit code and the files done, with their errors."""

    def done(*options, inputs=(folder,), output=out):
        arguments = ("--model", micro_file, *files.QUICK, "--json", *options)
        code = files.command(*inputs, output, *arguments)
        told = files.events(capsys.readouterr().out, "file")
        return code, {Path(event["source"]).name: event["error"] for event in told}

    return done


def as_core(image, scale=4.0, **choices):
    """(H, W, C) uint8 as the node computes it, and ComfyUI's Save Image writes it."""
    network = models.micro_model()
    pixels = torch.from_numpy(image.astype(np.float32) / 255.0).movedim(-1, 0)[None]
    restorer = VARSRRestorer(network, SampleSettings(), RefineSettings(steps=2))
    result = upscale(pixels, scale, restorer, **choices)[0]
    return np.clip(255.0 * result.movedim(0, -1).numpy(), 0, 255).astype(np.uint8)


def test_results_are_what_the_core_computes_to_the_bit(run, folder, out):
    assert run("--scale", 8, "--seed", 5, "--color-fix", "wavelet") == (
        0, {f"p{n}.png": None for n in range(3)},
    )  # fmt: skip
    for path in folder.iterdir():
        settings = UpscaleSettings(color_fix="wavelet")
        wanted = as_core(files.read(path), 8.0, seed=5, settings=settings)
        np.testing.assert_array_equal(files.read(out / path.name), wanted)


@pytest.fixture
def mixed(folder):
    """Pictures of one, two and four tiles, some of them with alpha or grey, some of them broken."""
    for number, (height, width, channels) in enumerate(
        [(9, 9, 4), (40, 10, 3), (8, 9, 1), (40, 40, 4), (30, 12, 3), (40, 10, 1)]
    ):
        values = files.pixels(height, width, channels=channels, seed=number)
        files.save(folder / f"m{number}.png", values)
    (folder / "m1b.png").write_text("no")
    (folder / "m4b.png").write_bytes((folder / "m4.png").read_bytes()[:300])
    return folder


@pytest.fixture
def groups(monkeypatch):
    """The sizes of the pictures that each call of the core was given."""
    seen, restore = [], model.Model.restore_each

    def spy(model, images, masks, on_progress):
        seen.append([tuple(image.shape[1:]) for image in images])
        return restore(model, images, masks, on_progress)

    monkeypatch.setattr(model.Model, "restore_each", spy)
    return seen


@pytest.mark.parametrize("together", [2, 4, 100])
def test_pictures_of_any_size_may_be_restored_together(run, mixed, out, tmp_path, together, groups):
    code, alone = run(output=tmp_path / "alone")
    assert code == program.SOME_FAILED
    assert {len(group) for group in groups} == {1}
    groups.clear()
    code, done = run("--together", together)
    assert code == program.SOME_FAILED
    assert done == alone
    assert {name for name, error in done.items() if error} == {"m1b.png", "m4b.png"}
    assert files.hashes(out) == files.hashes(tmp_path / "alone")
    count = 9
    assert list(map(len, groups)) == [min(together, count - n) for n in range(0, count, together)]


def test_pictures_fill_a_gpu_whatever_their_size(run, mixed, out, tmp_path, monkeypatch, groups):
    """By the tiles that it is said to hold; here they are run on the CPU all the same."""
    run(output=tmp_path / "alone")
    groups.clear()
    monkeypatch.setattr(device, "tiles_on", lambda *_: 4)
    assert run()[0] == program.SOME_FAILED
    assert list(map(len, groups)) == [4, 4, 1]
    for path in out.glob("*.png"):
        found = files.read(path).astype(int)
        assert np.abs(found - files.read(tmp_path / "alone" / path.name)).max() <= 1


def test_a_film_ends_a_group_and_pictures_after_it_are_another(run, folder, out, groups):
    films.make_film(folder / "p1b.mp4", frames=2, sound=False)
    code, done = run("--together", 4)
    assert code == 0
    assert list(done) == ["p0.png", "p1.png", "p1b.mp4", "p2.png"]
    assert list(map(len, groups)) == [2, 1]


def test_each_file_of_a_group_tells_its_own_tiles(run, mixed, out, capsys):
    files.command(mixed, out, "--together", 100, *files.QUICK, "--json")
    output = capsys.readouterr().out
    (end,) = files.events(output, "end")
    done = [event for event in files.events(output, "file") if event["error"] is None]
    tiles = {Path(event["source"]).stem: event["tiles"] for event in done}
    assert tiles["p0"] == tiles["m0"] == 1
    assert tiles["m3"] > tiles["m1"] > 1
    assert end["tiles"] == sum(tiles.values())
    for event in files.events(output, "progress"):
        assert 0 <= event["files"] <= event["of"] == 11


def test_mask_says_what_is_restored(run, folder, out, tmp_path):
    left = np.zeros((12, 10), np.uint8)
    left[:, :5] = 255
    mask = files.save(tmp_path / "mask.png", left)
    assert run("--mask", mask, "--feather", 0)[0] == 0
    image = files.read(folder / "p0.png")
    given = torch.from_numpy(left.astype(np.float32) / 255)[None, None]
    settings = UpscaleSettings(feather=0)
    wanted = as_core(image, mask=given, settings=settings)
    np.testing.assert_array_equal(files.read(out / "p0.png"), wanted)
    files.save(mask, 255 - left)
    assert len(run("--mask", mask, "--feather", 0)[1]) == 3


def test_second_run_does_nothing(run, out):
    run()
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run() == (0, {})
    after = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name != NAME}
    assert after.items() <= before.items()


def test_missing_and_changed_files_are_done_again(run, folder, out):
    run()
    (out / "p0.png").unlink()
    files.save(folder / "p1.png", files.pixels(seed=9))
    assert run() == (0, {"p0.png": None, "p1.png": None})
    np.testing.assert_array_equal(files.read(out / "p1.png"), as_core(files.pixels(seed=9)))


def test_file_that_was_only_touched_is_not_done_again(run, folder):
    run()
    os.utime(folder / "p0.png")
    assert run() == (0, {})


def test_result_that_was_changed_in_size_is_done_again(run, out):
    run()
    with (out / "p2.png").open("ab") as file:
        file.write(b"more")
    assert run() == (0, {"p2.png": None})


@pytest.mark.parametrize(
    "options", [("--scale", "2"), ("--seed", "1"), ("--top-k", "2"), ("--depth", "16")]
)
def test_changed_settings_are_a_reason_to_do_all_again(run, options):
    run()
    assert len(run(*options)[1]) == 3
    assert run(*options) == (0, {})


def test_how_work_is_done_is_no_reason_to_do_it_again(run):
    run()
    assert run("--together", 2, "--device", "cpu") == (0, {})


def test_another_model_is_a_reason_to_do_all_again(run, tmp_path):
    run()
    other = files.write_micro(tmp_path / "other.safetensors", seed=1)
    assert len(run("--model", other)[1]) == 3


def test_broken_files_are_told_and_tried_again(run, folder):
    (folder / "text.png").write_text("no")
    code, done = run()
    assert code == program.SOME_FAILED
    assert {name for name, error in done.items() if error} == {"text.png"}
    assert "begins with b'no'" in done["text.png"]
    assert run()[1].keys() == {"text.png"}
    files.save(folder / "text.png", files.pixels())
    assert run() == (0, {"text.png": None})


def test_one_broken_picture_among_those_restored_together_fails_alone(run, monkeypatch):
    restore = model.Model.restore_each

    def failing(model, images, masks, on_progress):
        if len(images) > 1 or torch.equal(images[0], torch.from_numpy(bad)):
            raise RuntimeError("too much")
        return restore(model, images, masks, on_progress)

    bad = (files.pixels(seed=1).astype(np.float32) / 255.0).transpose(2, 0, 1)
    monkeypatch.setattr(model.Model, "restore_each", failing)
    code, done = run("--together", 3)
    assert code == program.SOME_FAILED
    assert done == {"p0.png": None, "p1.png": "RuntimeError: too much", "p2.png": None}


def test_missing_file_of_a_list_is_told(run, folder):
    (folder / "list.txt").write_text("p0.png\nnone.png\n")
    code, done = run(inputs=(folder / "list.txt",))
    assert code == program.SOME_FAILED
    assert done["p0.png"] is None
    assert "none.png" in done["none.png"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scale", "0"), "scale is 0"),
        (("--seed", "-1"), "seed is -1"),
        (("--together", "-1"), "together is -1"),
        (("--model", "none.safetensors"), "there is no file"),
        (("--device", "nowhere"), "nowhere"),
        (("--name", "{what}"), "cannot be filled in"),
        (("--mask", "none.png"), "mask: there is no file"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_work(run, out, arguments, said, caplog):
    assert run(*arguments) == (program.NOT_DONE, {})
    assert said in caplog.text
    assert files.hashes(out) == {} if out.exists() else True


def test_output_folder_that_cannot_be_written_is_told(run, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    assert run(output=tmp_path / "file/out")[0] == program.NOT_DONE
    assert "cannot be used as the output folder" in caplog.text


def test_folder_that_cannot_be_read_or_holds_nothing_ends_well(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run(inputs=(tmp_path / "empty",)) == (0, {})


def test_two_runs_on_one_folder_are_refused(run, out, caplog):
    run()
    other = sqlite3.connect(out / NAME, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert run()[0] == program.NOT_DONE
    assert "another run works on" in caplog.text
    other.close()
    assert run() == (0, {})


def test_full_disk_ends_the_run_and_the_next_one_goes_on(run, out, monkeypatch, caplog):
    flush, calls = whole_file.flush, []

    def full(path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    monkeypatch.setattr(whole_file, "flush", full)
    code, done = run()
    assert code == program.NOT_DONE
    assert list(done) == ["p0.png", "p1.png"]
    assert "the disk is full" in caplog.text
    assert files.left_behind(out) == []
    monkeypatch.undo()
    assert run()[1].keys() == {"p1.png", "p2.png"}


def test_interrupted_run_has_its_own_exit_code_and_leaves_no_half_file(run, out, monkeypatch):
    write, calls = pictures.write_picture, []

    def interrupted(pixels, source, path, *rest):
        calls.append(path)
        write(pixels, source, path, *rest)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(pictures, "write_picture", interrupted)
    code, done = run()
    assert (code, list(done)) == (program.INTERRUPTED, ["p0.png"])
    assert list(files.hashes(out)) == ["p0.png"]
    assert files.left_behind(out) == []
    monkeypatch.undo()
    assert run()[1].keys() == {"p1.png", "p2.png"}


def test_killed_run_leaves_only_whole_files_and_the_next_one_the_rest(tmp_path, micro_file, capsys):
    """Twenty good pictures and four broken ones; killed with SIGKILL after the fifth."""
    files.make_mixed(tmp_path / "in", good=20, broken=4)
    options = ("--model", micro_file, *files.QUICK, "--scale", "8")
    assert files.command(tmp_path / "in", tmp_path / "whole", *options) == program.SOME_FAILED
    wanted = files.hashes(tmp_path / "whole")
    assert len(wanted) == 20
    with files.started(tmp_path / "in", tmp_path / "out", *options) as process:
        noted = []
        while len(noted) < 9:
            event = json.loads(process.stdout.readline())
            noted += [event] if event["event"] == "file" else []
        process.kill()
        rest = process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    noted += files.events(rest.rpartition("\n")[0], "file")
    found = files.hashes(tmp_path / "out")
    assert 5 <= len(found) < 20
    assert found.items() <= wanted.items()
    capsys.readouterr()
    code = files.command(tmp_path / "in", tmp_path / "out", *options, "--json")
    output = capsys.readouterr().out
    assert code == program.SOME_FAILED
    assert files.hashes(tmp_path / "out") == wanted
    assert files.left_behind(tmp_path / "out") == []
    (end,) = files.events(output, "end")
    assert end["failed"] == 4
    assert end["skipped"] >= sum(event["error"] is None for event in noted)
    assert end["skipped"] + end["restored"] == 20


def test_ctrl_c_ends_a_run_in_the_middle_of_a_picture(tmp_path, micro_file):
    files.save(tmp_path / "in/large.png", files.pixels(150, 150))
    options = ("--model", micro_file, *files.QUICK, "--scale", "8")
    with files.started(tmp_path / "in", tmp_path / "out", *options) as process:
        while json.loads(process.stdout.readline())["event"] != "progress":
            pass
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == program.INTERRUPTED
    assert time.monotonic() - began < 20
    assert files.hashes(tmp_path / "out") == {}
    assert files.left_behind(tmp_path / "out") == []


def test_progress_tells_files_tiles_speed_and_time_left(run, folder, out, capsys):
    files.save(folder / "p3.png", files.pixels(40, 40))
    run()
    files.command(folder, out, "--seed", 3, *files.QUICK, "--json")
    output = capsys.readouterr().out
    (start,), (end,) = files.events(output, "start"), files.events(output, "end")
    assert start == {"event": "start", "files": 4, "skipped": 0}
    tiles = [event["tiles"] for event in files.events(output, "file")]
    assert end["tiles"] == sum(tiles)
    assert tiles[:3] == [1, 1, 1]
    assert tiles[3] > 1
    for event in files.events(output, "progress"):
        assert event.keys() >= {"files", "of", "tiles", "tiles_per_s", "seconds_left"}
        assert 0 <= event["files"] <= event["of"] == 4


def test_people_see_a_bar_and_what_failed(run, folder, out, micro_file, capsys, caplog):
    (folder / "text.png").write_text("no")
    caplog.set_level("INFO")
    assert files.command(folder, out, "--model", micro_file, *files.QUICK) == program.SOME_FAILED
    assert "4 of 4 files" in capsys.readouterr().err
    assert "text.png: this is no PNG" in caplog.text
    assert "3 files restored, 0 done before, 1 failed; 3 tiles" in caplog.text


def test_memory_does_not_grow_with_the_number_of_pictures(folder, out, micro_file, monkeypatch):
    """Nothing of a picture is alive when the next but one is read."""
    import gc
    import weakref

    alive, most = weakref.WeakSet(), []
    read_picture = pictures.read_picture

    def watched(path, size):
        gc.collect()
        most.append(len(alive))
        picture = read_picture(path, size)
        alive.add(picture.pixels)
        return picture

    for number in range(3, 12):
        files.save(folder / f"p{number}.png", files.pixels(seed=number))
    monkeypatch.setattr(pictures, "read_picture", watched)
    assert files.command(folder, out, "--model", micro_file, *files.QUICK) == 0
    assert len(most) == 12
    assert max(most) <= 1


def test_depth_format_and_name_of_results(run, folder, out):
    values = files.pixels().astype(np.uint16) * 257
    files.save_png16(folder / "deep.png", values)
    assert run("--format", "tiff", "--name", "{stem}_x{scale}")[0] == 0
    assert sorted(files.hashes(out)) == [
        "deep_x4.tif", "p0_x4.tif", "p1_x4.tif", "p2_x4.tif",
    ]  # fmt: skip
    assert pictures.read_picture(out / "deep_x4.tif").deep
    assert not pictures.read_picture(out / "p0_x4.tif").deep
    eight = files.read(out / "p0_x4.tif")
    np.testing.assert_array_equal(eight, as_core(files.pixels()))


def test_every_outcome_is_on_the_disk_at_once(folder, out, micro_file, monkeypatch):
    """What a run tells is in the journal already, for whoever reads it from elsewhere."""
    noted = []

    def look(report, job, outcome):
        copy = out.parent / "copy.sqlite"
        copy.write_bytes((out / NAME).read_bytes())
        with sqlite3.connect(copy) as database:
            noted.append(database.execute("SELECT count(*) FROM files").fetchone()[0])

    monkeypatch.setattr(program.JSONReport, "file", look)
    assert files.command(folder, out, "--model", micro_file, *files.QUICK, "--json") == 0
    assert noted == [1, 2, 3]


def test_alpha_and_orientation_reach_the_result(run, folder, out):
    turned = Image.Exif()
    turned[0x0112] = 6
    files.save(folder / "turned.png", files.pixels(6, 12, channels=4), exif=turned)
    assert run()[0] == 0
    assert files.read(out / "turned.png").shape == (48, 24, 4)
