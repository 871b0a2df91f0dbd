"""Spans of films: the same frames, to the bit, whether or not all before them was read."""

import random
from fractions import Fraction

import av
import numpy as np
import pytest

from varsr_core.batch.film_reader import FIRST, LAST, FilmReader, SeekError

RATE, FRAMES, GROUP = 25, 120, 15
SIZE = (96, 128)  # the least that all of these encoders take


def frame_of(number):
    """Noise that moves and changes: no frame can be guessed from another."""
    values = np.random.default_rng(number // 7).integers(0, 255, (*SIZE, 3), np.uint8)
    return np.roll(values // 2 + 3 * (number % 20), 3 * number, axis=1)


def make(path, codec, options=None, times=range(FRAMES), form="yuv420p"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options or {})
        stream.height, stream.width = SIZE
        stream.pix_fmt = form
        stream.codec_context.gop_size = GROUP
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(frame_of(number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def seen(frames):
    return [(frame.pts, frame.to_ndarray().tobytes()) for frame in frames]


def spans_of(path, count=7):
    """Bounds of spans that lie anywhere, also beside key frames."""
    with av.open(path) as container:
        times = sorted(p.pts for p in container.demux(video=0) if p.pts is not None)
    inner = sorted(random.Random(1).sample(times[1:], count))
    return list(zip([FIRST, *inner], [*inner, LAST], strict=True))


def read_apart(path, spans):
    """Each span by itself, as workers read them; and how many were sought."""
    found, sought = {}, 0
    reader = FilmReader(path)
    for span in spans:
        try:
            found[span] = seen(reader.span(*span))
        except SeekError:
            reader = FilmReader(path)
            reader.seekable = False
            found[span] = seen(reader.span(*span))
        sought += reader.sought
    return found, sought


X264 = "scenecut=0:"
SOURCES = [
    ("libx264", ".mp4", {"bf": "3"}, "yuv420p"),
    ("libx264", ".mkv", {"bf": "3", "x264-params": X264 + "open-gop=1:b-pyramid=normal"}, "yuv420p"),
    ("libx264", ".mp4", {"bf": "3", "x264-params": X264 + "open-gop=1:b-pyramid=normal"}, "yuv420p"),
    ("libx265", ".mp4", {"x265-params": "open-gop=1:bframes=4:log-level=none"}, "yuv420p"),
    ("libx265", ".mkv", {"x265-params": "open-gop=1:bframes=4:log-level=none"}, "yuv420p"),
    ("libsvtav1", ".mkv", {"preset": "10", "svtav1-params": "irefresh-type=1"}, "yuv420p"),
    ("libvpx-vp9", ".webm", {"deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
    ("libvpx-vp9", ".webm", {"cpu-used": "5", "lag-in-frames": "16"}, "yuv420p"),
    ("libvpx", ".webm", {"deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
    ("mpeg2video", ".mkv", {"bf": "2", "q:v": "3"}, "yuv420p"),
    ("mpeg4", ".mp4", {"bf": "2", "q:v": "3"}, "yuv420p"),
    ("prores_ks", ".mov", {}, "yuv422p10le"),
    ("dnxhd", ".mov", {"profile": "dnxhr_sq"}, "yuv422p"),
    ("mjpeg", ".mov", {}, "yuvj420p"),
    ("ffv1", ".mkv", {}, "yuv420p"),
]


def name_of(source):
    return "".join(source[:2]) + ".".join(source[2].values())


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_frames_of_a_span_do_not_depend_on_what_was_read_before(tmp_path, source):
    codec, suffix, options, form = source
    path = make(tmp_path / f"clip{suffix}", codec, options, form=form)
    spans = spans_of(path)
    wanted = {span: seen(FilmReader(path).span(FIRST, LAST)) for span in spans[:1]}
    whole = wanted[spans[0]]
    assert len(whole) == FRAMES
    backwards, sought = read_apart(path, spans[::-1])
    assert [frame for span in spans for frame in backwards[span]] == whole
    assert sought == len(spans) - 1
    reader = FilmReader(path)
    assert [frame for span in spans for frame in seen(reader.span(*span))] == whole
    assert not reader.sought
    
