"""Interlaced films: made whole by FFmpeg's filter, wherever they are cut."""

import av
import numpy as np
import pytest

from helpers import batch_files as files
from helpers import film_files as films
from helpers import film_kinds as kinds
from varsr_core.batch.__main__ import INTERRUPTED
from varsr_core.batch.films import plan as film_plan
from varsr_core.batch.films import unfinished
from varsr_core.batch.films.deinterlace import deinterlaced
from varsr_core.batch.films.reader import FIRST, LAST, FilmReader, SeekError
from varsr_core.batch.model import Model

FRAMES, EACH = 40, 12
SAVED = [("mpeg2video", ".mkv", {}), ("libx264", ".mp4", {}), ("libx264", ".mkv", {}),
         ("ffv1", ".mkv", {"field_order": 2}), ("ffv1", ".mkv", {"field_order": 3})]  # fmt: skip
INTERLACED = pytest.mark.parametrize(("codec", "suffix", "context"), SAVED)


def decoded(path):
    with av.open(str(path)) as film:
        return list(film.decode(video=0))


def filtered(path, parity="parity=auto:deint=interlaced"):
    """All frames of a film through the filter, as `ffmpeg -vf bwdif` has them."""
    frames = decoded(path)
    first, graph = frames[0], av.filter.Graph()
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=first.time_base
    )
    middle = graph.add("bwdif", f"mode=send_frame:{parity}")
    graph.link_nodes(source, middle, graph.add("buffersink")).configure()
    for frame in [*frames, None]:
        graph.push(frame)
        while True:
            try:
                yield graph.pull().to_ndarray(format="rgb24")
            except (av.error.BlockingIOError, av.error.EOFError):
                break


def asked(codec, context):
    if codec != "ffv1":
        return "parity=auto:deint=interlaced"
    return f"parity={'tff' if context['field_order'] == 2 else 'bff'}:deint=all"


@pytest.fixture
def run(tmp_path, micro_file, monkeypatch):
    monkeypatch.setattr(
        Model,
        "restore",
        lambda model, pixels, mask, on_progress: pixels.repeat_interleave(4, -1).repeat_interleave(
            4, -2
        ),
    )

    def done(source, *options, output="out"):
        arguments = ("--model", micro_file, *files.QUICK, "--json", *options)
        code = files.command(source, tmp_path / output, *arguments)
        return code, tmp_path / output / source.name

    return done


@INTERLACED
def test_frames_come_out_as_from_the_filter_alone(tmp_path, codec, suffix, context):
    source = kinds.save_interlaced(tmp_path / f"c{suffix}", 10, codec, **context)
    frames = list(FilmReader(str(source)).span(FIRST, LAST))
    wanted = list(filtered(source, asked(codec, context)))
    given = decoded(source)
    assert [frame.pts for frame in frames] == [frame.pts for frame in given]
    found = [frame.to_ndarray(format="rgb24") for frame in frames]
    np.testing.assert_array_equal(found, wanted)
    assert any((a != b.to_ndarray(format="rgb24")).any() for a, b in zip(found, given, strict=True))


@INTERLACED
@pytest.mark.parametrize("begin", [1, 7, 13, 24, 38])
def test_span_in_the_middle_has_the_frames_of_the_whole(tmp_path, codec, suffix, context, begin):
    """Reached by seeking, or from the beginning where that is not certain to be the same."""
    source = kinds.save_interlaced(tmp_path / f"c{suffix}", FRAMES, codec, **context)
    wanted = list(filtered(source, asked(codec, context)))
    times = [frame.pts for frame in decoded(source)]
    reader = FilmReader(str(source))
    try:
        frames = list(reader.span(times[begin], LAST))
    except SeekError:
        reader = FilmReader(str(source))
        reader.seekable = False
        frames = list(reader.span(times[begin], LAST))
    assert [frame.pts for frame in frames] == times[begin:]
    found = [frame.to_ndarray(format="rgb24") for frame in frames]
    np.testing.assert_array_equal(found, wanted[begin:])


def test_long_film_is_sought_in(tmp_path):
    source = kinds.save_interlaced(tmp_path / "c.mkv", 4 * FRAMES, "libx264")
    times = [frame.pts for frame in decoded(source)]
    reader = FilmReader(str(source))
    assert len(list(reader.span(times[100], LAST))) == 60
    assert reader.sought


class _Frame:
    """Enough of one to be let through."""

    interlaced_frame = False


def test_frames_that_are_not_interlaced_are_let_through_as_they_are():
    frames = [_Frame() for _ in range(5)]
    assert list(deinterlaced(frames, None, True)) == frames


@pytest.mark.parametrize("start", [0, 1, 2, 5])
def test_film_may_begin_otherwise_and_change(tmp_path, start):
    """Only flagged frames are changed, by the frames beside them, whatever those are."""
    plain = kinds.save(tmp_path / "plain.mkv", 6, "ffv1", pixels=kinds.combed)
    woven = kinds.save_interlaced(tmp_path / "woven.mkv", 6, "mpeg2video")
    frames = decoded(plain)[:start] + decoded(woven)
    for number, frame in enumerate(frames):
        frame.pts = number
    found = list(deinterlaced(frames, None, False))
    assert [frame.pts for frame in found] == list(range(len(frames)))
    assert found[:start] == frames[:start]
    changed = [
        (a.to_ndarray(format="rgb24") != b.to_ndarray(format="rgb24")).any()
        for a, b in zip(found, frames, strict=True)
    ]
    assert sum(changed[start:]) >= 5
    after = list(deinterlaced(frames[max(0, start - 2) :], None, start > 2))
    for a, b in zip(found[start:], after[-6:], strict=True):
        np.testing.assert_array_equal(a.to_ndarray(format="rgb24"), b.to_ndarray(format="rgb24"))


@INTERLACED
def test_result_is_the_same_however_it_is_cut_and_stopped(
    tmp_path, run, monkeypatch, codec, suffix, context
):
    source = kinds.save_interlaced(tmp_path / f"c{suffix}", FRAMES, codec, **context)
    lossless = ("--crf", "0")
    _, whole = run(source, *lossless, output="whole")
    monkeypatch.setattr(film_plan, "SEGMENT_FRAMES", EACH)
    monkeypatch.setattr(unfinished, "SEGMENT_FRAMES", EACH)
    _, cut = run(source, *lossless, output="cut")
    np.testing.assert_array_equal(films.shown(cut)[1], films.shown(whole)[1])
    assert files.hashes(cut.parent) != files.hashes(whole.parent)
    count, restore = [], Model.restore

    def stopped(model, pixels, mask, on_progress):
        count.extend(pixels)
        if len(count) == EACH * 2 + 5:
            raise KeyboardInterrupt
        return restore(model, pixels, mask, on_progress)

    monkeypatch.setattr(Model, "restore", stopped)
    code, result = run(source, *lossless)
    assert code == INTERRUPTED
    assert run(source, *lossless)[0] == 0
    assert len(count) == FRAMES + 5
    assert files.hashes(result.parent) == files.hashes(cut.parent)


def test_deinterlacing_is_told_and_can_be_left_off(tmp_path, run, capsys):
    source = kinds.save_interlaced(tmp_path / "c.mkv", 8)
    run(source, "--crf", "0")
    made = films.shown(tmp_path / "out/c.mkv")[1]
    (event,) = files.events(capsys.readouterr().out, "file")
    assert event["notes"] == ["deinterlaced"]
    run(source, "--crf", "0", "--deinterlace", "off", output="off")
    (event,) = files.events(capsys.readouterr().out, "file")
    assert "interlaced" in event["notes"][0]
    left = films.shown(tmp_path / "off/c.mkv")[1]
    wanted = list(filtered(source))
    given = [frame.to_ndarray(format="rgb24") for frame in decoded(source)]
    for a, b, c, d in zip(made, left, wanted, given, strict=True):
        assert np.abs(a[::4, ::4].astype(float) - c).mean() < 3
        assert np.abs(b[::4, ::4].astype(float) - d).mean() < 3
    with av.open(str(tmp_path / "out/c.mkv")) as film:
        assert film.streams.video[0].codec_context.field_order == 1
        assert not any(frame.interlaced_frame for frame in film.decode(video=0))
