"""Films: frames larger, everything else as it was."""

import sys
import weakref

import av
import numpy as np
import pytest
import torch

from helpers import batch_files as files
from helpers import film_files as films
from helpers import models
from varsr_core.batch.__main__ import SOME_FAILED
from varsr_core.batch.model import Model
from varsr_core.runtime import device
from varsr_core.upscaling import upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings


@pytest.fixture
def run(tmp_path, micro_file):
    def done(source, *options):
        arguments = ("--model", micro_file, *files.QUICK, *options)
        code = files.command(source, tmp_path / "out", *arguments)
        return code, tmp_path / "out" / source.name

    return done


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_ten_seconds_keep_their_frames_times_and_sound(tmp_path, run, suffix):
    source = films.make_film(tmp_path / f"clip{suffix}")
    code, result = run(source)
    assert code == 0
    times, _ = films.shown(source)
    found_times, found = films.shown(result)
    assert len(found) == films.RATE * films.SECONDS
    assert found_times == times
    assert {frame.shape for frame in found} == {(48, 64, 3)}
    assert films.heard(result) == films.heard(source)
    assert len(films.heard(source)) > 400
    assert films.frame_rate(result) == films.frame_rate(source)


def test_uneven_time_stamps_are_kept(tmp_path, run):
    source = films.make_film(tmp_path / "clip.mp4", frames=12, gap=3)
    times, _ = films.shown(source)
    assert len({b - a for a, b in zip(times, times[1:], strict=False)}) > 1
    assert films.shown(run(source)[1])[0] == times


def test_frames_are_what_the_core_makes_of_them_with_one_seed(tmp_path, run):
    """But for the film's own compression, which is turned off here as far as it goes."""
    source = films.make_film(tmp_path / "clip.mp4", frames=5, sound=False)
    _, result = run(source, "--seed", 3, "--crf", 0)
    network = models.micro_model()
    for given, found in zip(films.shown(source)[1], films.shown(result)[1], strict=True):
        wanted = upscale(
            torch.from_numpy(given).movedim(-1, 0)[None] / 255,
            4.0,
            VARSRRestorer(network, SampleSettings(), RefineSettings(steps=2)),
            seed=3,
        )[0]
        rounded = wanted.movedim(0, -1).mul(255).round().byte().numpy()
        # Through YUV and back, with half the colour resolution: brightness tells.
        light = found.astype(float).mean(axis=2) - rounded.astype(float).mean(axis=2)
        assert np.abs(light).mean() < 4


@pytest.mark.parametrize("space", [1, 5])
@pytest.mark.parametrize("reach", [1, 2])
def test_colours_survive_whatever_space_the_film_is_in(tmp_path, run, space, reach):
    """space: BT.709 and BT.601; reach: of television and of computers."""
    source = films.make_film(tmp_path / "c.mp4", 3, False, colorspace=space, color_range=reach)
    _, result = run(source, "--crf", 1)
    for given, found in zip(films.shown(source)[1], films.shown(result)[1], strict=True):
        difference = given.mean(axis=(0, 1)) - found.mean(axis=(0, 1))
        assert np.abs(difference).max() < 4
    with av.open(str(result)) as container:
        assert container.streams.video[0].codec_context.colorspace == space


@pytest.mark.parametrize(
    ("options", "wanted"), [(("--together", 3), [3, 3, 1]), ((), [4, 3])], ids=["3", "all that fit"]
)
def test_frames_are_restored_together(tmp_path, run, monkeypatch, options, wanted):
    monkeypatch.setattr(device, "tiles_on", lambda *_: 4)
    calls, restore = [], Model.restore

    def watched(model, pixels, mask, on_progress):
        calls.append(len(pixels))
        return restore(model, pixels, mask, on_progress)

    monkeypatch.setattr(Model, "restore", watched)
    source = films.make_film(tmp_path / "clip.mp4", frames=7)
    assert run(source, *options)[0] == 0
    assert calls == wanted
    assert films.shown(tmp_path / "out/clip.mp4")[0] == films.shown(source)[0]
    assert films.heard(tmp_path / "out/clip.mp4") == films.heard(source)


def test_memory_does_not_grow_with_the_length(tmp_path, run, monkeypatch):
    """When a frame is restored, at most the one before it is still alive."""
    restored, alive = [], []
    restore = Model.restore

    def watched(model, pixels, mask, on_progress):
        alive.append(sum(one() is not None for one in restored))
        result = restore(model, pixels, mask, on_progress)
        restored.append(weakref.ref(result.untyped_storage()))
        return result

    monkeypatch.setattr(Model, "restore", watched)
    assert run(films.make_film(tmp_path / "clip.mp4", frames=30))[0] == 0
    assert len(alive) == 30
    assert max(alive) <= 1


def make_empty(path):
    path.write_bytes(b"")


def make_text(path):
    path.write_text("no film" * 100)


def make_cut(path):
    """The index comes last in such a file."""
    path.write_bytes(films.make_film(path).read_bytes()[:-2000])


def make_sound(path):
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=films.SOUND_RATE)
        audio.layout = "stereo"
        container.mux(audio.encode(films.tone(0)))
        container.mux(audio.encode(None))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_empty, "0 bytes"),
        (make_text, "no film that can be read"),
        (make_cut, "no film that can be read"),
        (make_sound, "no moving picture"),
    ],
)
def test_broken_films_are_told_plainly(tmp_path, run, make, said, caplog):
    make(tmp_path / "clip.mp4")
    code, result = run(tmp_path / "clip.mp4")
    assert code == SOME_FAILED
    assert said in caplog.text
    assert not result.exists()
    assert files.left_behind(result.parent) == []


def test_missing_package_is_told_with_what_to_install(tmp_path, run, monkeypatch, caplog):
    source = films.make_film(tmp_path / "clip.mp4", frames=2)
    monkeypatch.setitem(sys.modules, "av", None)
    assert run(source)[0] == SOME_FAILED
    assert "pip install av" in caplog.text


def test_film_that_is_cut_off_behind_its_index_is_told(tmp_path, run, caplog):
    whole = films.make_film(tmp_path / "whole.mp4", frames=60)
    fast = tmp_path / "clip.mp4"
    with (
        av.open(str(whole)) as source,
        av.open(str(fast), "w", options={"movflags": "faststart"}) as target,
    ):
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    content = fast.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    fast.write_bytes(content[: content.index(b"mdat") + 9000])
    code, result = run(fast)
    assert code == SOME_FAILED
    assert "cut off" in caplog.text or "damaged" in caplog.text
    assert not result.exists()
