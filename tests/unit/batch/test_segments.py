"""Films restored in segments: the same film, however often the run was stopped, and whoever ran."""

import os
import signal
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from helpers import batch_files as files
from helpers import film_files as films
from varsr_core.batch.__main__ import INTERRUPTED, SOME_FAILED
from varsr_core.batch.films import codecs as film_codecs
from varsr_core.batch.films import plan as film_plan
from varsr_core.batch.films import unfinished
from varsr_core.batch.films.segment_file import read_packets, read_table
from varsr_core.batch.films.unfinished import SEGMENTS
from varsr_core.batch.model import Model

FRAMES, EACH = 40, 12  # of the films, and of a segment where a test sets it: three segments
SUFFIXES = [".mp4", ".mkv", ".mov", ".webm"]


@pytest.fixture
def options(micro_file):
    return ("--model", micro_file, *files.QUICK)


@pytest.fixture
def run(tmp_path, options):
    def done(source, *more, output="out"):
        code = files.command(source, tmp_path / output, *options, *more)
        return code, tmp_path / output / source.name

    return done


@pytest.fixture
def cut(monkeypatch):
    """Sets how many frames a segment has."""

    def to(frames):
        monkeypatch.setattr(film_plan, "SEGMENT_FRAMES", frames)
        monkeypatch.setattr(unfinished, "SEGMENT_FRAMES", frames)

    return to


@pytest.fixture
def restored(monkeypatch):
    """How many frames were restored; an exception may be put where one is to be raised."""
    count = {"frames": 0, "raised": {}}
    restore = Model.restore

    def counted(model, pixels, mask, on_progress):
        if (error := count["raised"].get(count["frames"])) is not None:
            raise error
        count["frames"] += len(pixels)
        return restore(model, pixels, mask, on_progress)

    monkeypatch.setattr(Model, "restore", counted)
    return count


def segments(folder):
    return sorted(path for path in folder.glob(f"{SEGMENTS}/*/*") if path.is_file())


def decoding_times(path):
    with av.open(str(path)) as container:
        return [packet.dts for packet in container.demux(video=0) if packet.dts is not None]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("gap", [0, 3])
def test_joined_film_has_the_times_and_sound_of_one_encoded_at_once(
    tmp_path, run, cut, suffix, gap
):
    source = films.make_film(tmp_path / f"clip{suffix}", FRAMES, gap=gap)
    _, whole = run(source, output="whole")
    cut(EACH)
    code, result = run(source)
    assert code == 0
    assert films.shown(result)[0] == films.shown(source)[0]
    assert films.heard(result) == films.heard(source)
    assert films.frame_rate(result) == films.frame_rate(whole)
    assert decoding_times(result) == decoding_times(whole)
    assert files.left_behind(result.parent) == []
    _, again = run(source, output="again")
    assert files.hashes(again.parent) == files.hashes(result.parent)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_joined_film_shows_the_frames_of_its_segments(tmp_path, run, cut, monkeypatch, suffix):
    """Each segment by itself in a decoder of its own, against the film in one."""
    monkeypatch.setattr(unfinished.shutil, "rmtree", lambda *_, **__: None)
    cut(EACH)
    _, result = run(films.make_film(tmp_path / f"clip{suffix}", FRAMES, sound=False))
    alone = []
    for path in segments(result.parent):
        table = read_table(path)
        decoder = av.CodecContext.create("vp9" if suffix == ".webm" else "h264", "r")
        if table.header and suffix != ".webm":
            decoder.extradata = bytes.fromhex(table.header)
        packets = [*read_packets(path, table, Fraction(1, 1)), None]
        frames = [frame for packet in packets for frame in decoder.decode(packet)]
        assert 0 < len(frames) <= EACH * 3 // 2
        alone += [frame.to_ndarray(format="rgb24") for frame in frames]
    joined = films.shown(result)[1]
    assert len(segments(result.parent)) == 3
    np.testing.assert_array_equal(joined, alone)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_where_a_film_is_cut_does_not_show(tmp_path, run, cut, suffix):
    """Encoded without loss, to the bit; of VP9 that is not to be had here."""
    source = films.make_film(tmp_path / f"clip{suffix}", FRAMES)
    _, whole = run(source, "--crf", 0, output="whole")
    cut(EACH)
    _, result = run(source, "--crf", 0)
    assert files.hashes(whole.parent) != files.hashes(result.parent)
    np.testing.assert_array_equal(films.shown(result)[1], films.shown(whole)[1])


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("too hot")])
def test_stopped_run_goes_on_at_the_segment(tmp_path, run, cut, restored, stop):
    source = films.make_film(tmp_path / "clip.mp4", FRAMES)
    cut(EACH)
    _, whole = run(source, output="whole")
    assert restored["frames"] == FRAMES
    restored |= {"frames": 0, "raised": {EACH * 2 + 5: stop}}
    code, result = run(source)
    assert code == (INTERRUPTED if isinstance(stop, KeyboardInterrupt) else SOME_FAILED)
    assert files.hashes(result.parent) == {}
    assert len(segments(result.parent)) == 2
    restored |= {"frames": 0, "raised": {}}
    assert run(source)[0] == 0
    assert restored["frames"] == FRAMES - EACH * 2
    assert files.hashes(result.parent) == files.hashes(whole.parent)
    assert files.left_behind(result.parent) == []


def test_run_stopped_before_joining_restores_nothing_again(
    tmp_path, run, cut, restored, monkeypatch
):
    source = films.make_film(tmp_path / "clip.mp4", FRAMES)
    cut(EACH)
    with monkeypatch.context() as patch:
        patch.setattr(unfinished, "join_film", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        code, result = run(source)
    assert code == INTERRUPTED
    assert len(segments(result.parent)) == 3
    assert run(source)[0] == 0
    assert restored["frames"] == FRAMES
    assert run(source)[0] == 0
    assert restored["frames"] == FRAMES


def touch(source):
    os.utime(source, ns=(1, 1))


def replace(source):
    films.make_film(source, FRAMES, sound=False)


@pytest.mark.parametrize(("change", "more"), [(replace, ()), (touch, ()), (None, ("--seed", 3))])
def test_segments_of_another_film_or_other_settings_are_not_used(
    tmp_path, run, cut, restored, change, more
):
    source = films.make_film(tmp_path / "clip.mp4", FRAMES)
    cut(EACH)
    restored["raised"] = {EACH * 2 + 5: KeyboardInterrupt()}
    _, result = run(source)
    old = segments(result.parent)
    if change:
        change(source)
    restored |= {"frames": 0, "raised": {3: KeyboardInterrupt()}}
    run(source, *more)
    assert not any(path.exists() for path in old)
    restored |= {"frames": 0, "raised": {}}
    assert run(source, *more)[0] == 0
    assert restored["frames"] == FRAMES
    assert files.left_behind(result.parent) == []


def test_film_that_changes_meanwhile_is_told(tmp_path, run, cut, monkeypatch, caplog):
    source = films.make_film(tmp_path / "clip.mp4", FRAMES)
    cut(EACH)
    restore = Model.restore

    def changing(*arguments):
        os.utime(source)
        return restore(*arguments)

    monkeypatch.setattr(Model, "restore", changing)
    code, result = run(source)
    assert code == SOME_FAILED
    assert "changed meanwhile" in caplog.text
    assert segments(result.parent) == []


@pytest.mark.parametrize("damage", ["begin", "byte"])
def test_damaged_segment_is_restored_again(tmp_path, run, cut, restored, damage):
    source = films.make_film(tmp_path / "clip.mp4", FRAMES)
    cut(EACH)
    restored["raised"] = {EACH * 2 + 5: KeyboardInterrupt()}
    _, result = run(source)
    damaged = segments(result.parent)[1]
    data = bytearray(damaged.read_bytes())
    data[40] ^= 1
    damaged.write_bytes(data if damage == "byte" else data[3:])
    restored |= {"frames": 0, "raised": {}}
    assert run(source)[0] == 0
    assert restored["frames"] == FRAMES - EACH


def test_segments_of_another_encoder_are_restored_again(
    tmp_path, run, cut, restored, monkeypatch, caplog
):
    source = films.make_film(tmp_path / "clip.mp4", FRAMES)
    cut(EACH)
    restored["raised"] = {EACH + 5: KeyboardInterrupt()}
    run(source)
    restored["raised"] = {}
    with monkeypatch.context() as patch:
        patch.setattr(film_codecs, "REPEATABLE", {"bframes": "0"})
        assert run(source)[0] == SOME_FAILED
    assert "another version of PyAV" in caplog.text
    restored["frames"] = 0
    for code in (SOME_FAILED, 0):  # whose the segments are is not known before they are joined
        assert run(source)[0] == code
    assert restored["frames"] == FRAMES


def test_killed_run_loses_only_the_segment_in_hand(tmp_path, options, capsys):
    source = films.make_film(tmp_path / "clip.mp4", 4 * film_plan.SEGMENT_FRAMES)
    assert files.command(source, tmp_path / "whole", *options, "--json") == 0
    (whole,) = files.events(capsys.readouterr().out, "file")
    out = tmp_path / "out"
    with files.started(source, out, *options) as process:
        while len(segments(out)) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    kept = [path for path in segments(out) if not path.name.startswith(".")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert 1 <= len(kept) < 4
    assert files.hashes(out) == {}
    assert files.command(source, out, *options, "--json") == 0
    (rest,) = files.events(capsys.readouterr().out, "file")
    assert rest["tiles"] == whole["tiles"] * (4 - len(before)) // 4
    assert files.hashes(out) == files.hashes(tmp_path / "whole")
    assert files.left_behind(out) == []


def test_progress_counts_what_earlier_runs_did(tmp_path, run, cut, restored, capsys, monkeypatch):
    monkeypatch.setattr("varsr_core.batch.report.PAUSE_S", 0.0)
    source = films.make_film(tmp_path / "clip.mp4", 3 * EACH)
    cut(EACH)
    restored["raised"] = {EACH + 2: KeyboardInterrupt()}
    run(source)
    restored["raised"] = {}
    capsys.readouterr()
    assert run(source, "--json")[0] == 0
    output = capsys.readouterr().out
    shares = [event["files"] for event in files.events(output, "progress")]
    assert shares == sorted(shares)
    assert 0.3 < shares[0] < 0.4
    assert shares[-1] == 1
    (end,) = files.events(output, "end")
    assert end["tiles"] == restored["frames"] - EACH - 2


def test_frames_of_equal_times_are_kept_where_the_container_can(tmp_path, run, cut):
    source = tmp_path / "clip.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("ffv1", rate=films.RATE)
        video.height, video.width, video.pix_fmt = 12, 16, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(films.frame_pixels(number), format="rgb24")
            frame.pts, frame.time_base = number - number % 2, Fraction(1, films.RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    cut(EACH)
    code, result = run(source)
    assert code == 0
    assert films.shown(result)[0] == films.shown(source)[0]


def test_film_without_proper_times_is_told_before_the_work(tmp_path, run, restored, caplog):
    """H.264 with frames that are predicted backwards, in AVI."""
    source = films.make_film(tmp_path / "clip.avi", FRAMES, sound=False)
    with av.open(str(source), "w") as container:
        choices = {"x264-params": "b-adapt=0:bframes=3:scenecut=0"}
        video = container.add_stream("libx264", rate=films.RATE, options=choices)
        video.height, video.width, video.pix_fmt = 12, 16, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(films.frame_pixels(number), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    assert run(source)[0] == SOME_FAILED
    assert "proper time stamps" in caplog.text
    assert restored["frames"] < 4
