"""Spans of films: the same frames, to the bit, whether or not all before them was read."""

import random
from fractions import Fraction

import av
import numpy as np
import pytest

from helpers.each import each
from varsr_core.batch.films.reader import FIRST, LAST, FilmReader, SeekError, open_film
from varsr_core.errors import InputError

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


OPEN = {
    "libx264": {"bf": "3", "x264-params": "scenecut=0:b-adapt=0:open-gop=1"},
    "libx265": {"x265-params": "scenecut=0:b-adapt=0:open-gop=1:bframes=4:log-level=none"},
}
REFRESHED = {"x264-params": "intra-refresh=1:bframes=0:scenecut=0"}
SOURCES = [
    ("libx264", ".mp4", {"bf": "3"}, "yuv420p"),
    *((codec, suffix, OPEN[codec], "yuv420p") for codec in OPEN for suffix in (".mp4", ".mkv")),
    ("libsvtav1", ".mkv", {"preset": "10", "svtav1-params": "irefresh-type=1"}, "yuv420p"),
    ("libvpx-vp9", ".webm", {"deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
    ("libvpx-vp9", ".webm", {"cpu-used": "5", "lag-in-frames": "16"}, "yuv420p"),
    ("libvpx", ".webm", {"deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
    ("mpeg2video", ".mkv", {"bf": "2", "q:v": "3"}, "yuv420p"),
    ("mpeg4", ".mp4", {"bf": "2", "q:v": "3"}, "yuv420p"),
    ("prores_ks", ".mov", {}, "yuv422p10le"),
    ("mjpeg", ".mov", {}, "yuvj420p"),
    ("ffv1", ".mkv", {}, "yuv420p"),
]


def name_of(source):
    return "".join(source[:2]) + ".".join(source[2].values())


def check(path):
    """Every span, read by itself, holds what the whole film holds there; returns those sought."""
    whole = seen(FilmReader(path).span(FIRST, LAST))
    assert len(whole) == FRAMES
    spans = spans_of(path)
    apart, sought = read_apart(path, spans[::-1])
    assert [frame for span in spans for frame in apart[span]] == whole
    reader = FilmReader(path)
    assert [frame for span in spans for frame in seen(reader.span(*span))] == whole
    assert not reader.sought
    return sought, len(spans)


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_frames_of_a_span_do_not_depend_on_what_was_read_before(tmp_path, source):
    codec, suffix, options, form = source
    path = make(tmp_path / f"clip{suffix}", codec, options, form=form)
    sought, count = check(path)
    assert sought == count - 1


@pytest.mark.parametrize("codec", OPEN)
def test_this_test_has_frames_that_need_what_lies_before_a_key_frame(tmp_path, codec):
    path = make(tmp_path / "clip.mp4", codec, OPEN[codec])
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [packet.pts for packet in packets if packet.is_keyframe]
    after = [packets[n + 1].pts for n, packet in enumerate(packets[:-1]) if packet.is_keyframe]
    assert len(keys) > 5
    assert sum(b < a for a, b in zip(keys, after, strict=False)) > 3


def test_uneven_times_are_told_apart(tmp_path):
    times = [n + n * n // 40 for n in range(FRAMES)]
    sought, count = check(make(tmp_path / "clip.mp4", "libx264", {"bf": "3"}, times))
    assert sought == count - 1


def test_film_that_is_refreshed_bit_by_bit_is_read_from_the_beginning(tmp_path):
    """What is marked as a key frame there is not a whole one."""
    path = make(tmp_path / "clip.mp4", "libx264", REFRESHED)
    with av.open(path) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) > 3
    assert check(path)[0] == 0


@pytest.mark.parametrize("codec", ["libx265", "mpeg4", "mpeg2video"])
def test_film_with_wrong_key_frames_is_read_from_the_beginning(tmp_path, codec):
    """Of other codecs, FFmpeg finds by itself which frames are key frames."""
    path = make(tmp_path / "clip.mp4", codec)
    wrong = str(tmp_path / "wrong.mp4")
    with av.open(path) as source, av.open(wrong, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is not None:
                packet.stream, packet.is_keyframe = stream, number % GROUP in (0, 5, 9)
                target.mux(packet)
    sought, count = check(wrong)
    assert sought < count - 1


def test_avi_is_read_from_the_beginning(tmp_path):
    assert check(make(tmp_path / "clip.avi", "mpeg4", {"bf": "2"}))[0] == 0


LISTS = {  # kinds of files that make FFmpeg open others
    "ffconcat": "ffconcat version 1.0\nfile film.ts\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4.8,\nfilm.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:01,000\nno film\n",
    "drawing": "<svg xmlns='http://www.w3.org/2000/svg'><image href='film.ts'/></svg>",
}


@each("kind", LISTS)
def test_file_that_names_other_files_is_no_film(tmp_path, kind):
    make(tmp_path / "film.ts", "mpeg2video")
    for suffix in (".mp4", ".mkv", ".avi", ".m3u8.mp4"):
        path = tmp_path / f"list{suffix}"
        path.write_text(LISTS[kind])
        with pytest.raises(InputError):
            open_film(str(path))


@each("container", ["mpegts", "flv", "asf", "matroska", "mov", "avi"])
def test_film_is_read_whatever_its_suffix_says(tmp_path, container):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w", format=container) as target:
        stream = target.add_stream("flv" if container == "flv" else "mpeg4", rate=RATE)
        stream.height, stream.width = SIZE
        frame = av.VideoFrame.from_ndarray(frame_of(0), format="rgb24")
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    with open_film(str(path)) as source:
        assert len(list(source.decode(video=0))) == 1
