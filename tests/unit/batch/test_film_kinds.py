"""Kinds of films that were restored wrongly once: what they look like is what players show."""

import sqlite3
from fractions import Fraction

import av
import numpy as np
import pytest

from helpers import batch_files as files
from helpers import film_files as films
from helpers import film_kinds as kinds
from varsr_core.batch.__main__ import INTERRUPTED, SOME_FAILED
from varsr_core.batch.films import plan as film_plan
from varsr_core.batch.films import unfinished
from varsr_core.batch.films.look import Look
from varsr_core.batch.films.unfinished import SEGMENTS
from varsr_core.batch.journal import NAME
from varsr_core.batch.model import Model

CLOSE = 3  # levels of 255
TURNS = {  # a, b, c, d of a display matrix, in 16.16
    "none": (1, 0, 0, 1), "90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0),
    "across": (-1, 0, 0, 1), "down": (1, 0, 0, -1), "transposed": (0, 1, 1, 0),
    "90 and mirrored": (0, -1, -1, 0),
}  # fmt: skip
MASTERING = (
    "log-level=error:hdr10=1:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)


def matrix(a, b, c, d):
    return [round(one * 65536) for one in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30]


def results(event):
    return films.shown(event["output"])[1]


def shrunk(frame):
    """Every block of a pixel of the input, as one pixel."""
    height, width, _ = frame.shape
    return frame.reshape(height // 4, 4, width // 4, 4, -1).mean(axis=(1, 3))


def differences(found, wanted):
    """On average, of each frame."""
    assert len(found) == len(wanted) > 0
    return [np.abs(shrunk(a) - b).mean() for a, b in zip(found, wanted, strict=True)]


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt", "options"),
    [
        (".mp4", "libx264rgb", "rgb24", {"crf": "0"}),
        (".mkv", "libx264rgb", "bgr0", {"crf": "0"}),
        (".mov", "png", "rgb24", {}),
        (".mov", "png", "rgba", {}),
        (".webm", "libvpx-vp9", "gbrp", {"lossless": "1"}),
        (".mkv", "ffv1", "bgr0", {}),
        (".mkv", "ffv1", "gbrp16le", {}),
    ],
)
def test_films_coded_as_rgb_keep_their_colors(tmp_path, run, suffix, codec, pix_fmt, options):
    source = kinds.save(tmp_path / f"c{suffix}", 4, codec, pix_fmt, options)
    found = results(run(source, "--crf", 4))
    assert max(differences(found, [kinds.colors(n) for n in range(4)])) < CLOSE


def test_film_that_only_says_it_is_rgb_keeps_its_colors(tmp_path, run):
    source = kinds.save(tmp_path / "c.mkv", 4, "ffv1", "yuv444p", colorspace=0)
    with av.open(str(source)) as film:
        assert next(film.decode(video=0)).colorspace == 0
    found = results(run(source, "--crf", 4))
    assert max(differences(found, [kinds.colors(n) for n in range(4)])) < CLOSE


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_films_are_turned_and_mirrored_as_players_show_them(tmp_path, run, suffix, turn):
    a, b, c, d = TURNS[turn]
    source = kinds.save(
        tmp_path / f"c{suffix}", 3, options={"crf": "0"}, pix_fmt="yuv444p",
        matrix=matrix(a, b, c, d), sample_aspect_ratio=Fraction(4, 3),
    )  # fmt: skip
    event = run(source, "--crf", 1)
    found = results(event)
    for number, frame in enumerate(found):
        given = kinds.colors(number)
        height, width, _ = given.shape
        wanted = np.empty((width, height, 3) if b else given.shape)
        for y in range(height):
            for x in range(width):  # where the matrix puts it, moved into the picture
                across, down = a * x + c * y, b * x + d * y
                wanted[
                    down if b + d > 0 else down - 1 + len(wanted),
                    across if a + c > 0 else across - 1 + wanted.shape[1],
                ] = given[y, x]
        assert np.abs(shrunk(frame) - wanted).mean() < CLOSE
    with av.open(event["output"]) as film:
        video = film.streams.video[0]
        assert video.sample_aspect_ratio == (Fraction(3, 4) if b else Fraction(4, 3))
        assert kinds.side_data(event["output"]).get("DISPLAYMATRIX") is None


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize(
    "sizes", [((12, 16), (24, 32)), ((24, 32), (12, 16)), ((12, 16), (16, 12))]
)
def test_frames_of_another_size_are_scaled_to_the_first(tmp_path, run, sizes, together):
    source = kinds.save_resizing(tmp_path / "c.mkv", sizes=sizes)
    event = run(source, "--together", together)
    found = results(event)
    assert {frame.shape for frame in found} == {(4 * sizes[0][0], 4 * sizes[0][1], 3)}
    # The picture is the same in both sizes: cut off, its far corner would be another.
    assert max(differences(found, [shrunk(found[0])] * 12)) < 2 * CLOSE
    assert "size" in " ".join(event["notes"])


@pytest.mark.parametrize("codec", ["auto", "libx265", "libsvtav1"])
def test_mastering_display_and_light_level_are_kept(tmp_path, run, codec):
    source = kinds.save(
        tmp_path / "c.mp4", 3, "libx265", "yuv420p10le", {"x265-params": MASTERING},
        pixels=lambda n: kinds.colors(n, (48, 64)), color_primaries=9, color_trc=16, colorspace=9,
        color_range=1,
    )  # fmt: skip
    said = kinds.side_data(source)
    event = run(source, "--video-codec", codec)
    found = kinds.side_data(event["output"])
    for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        assert _fractions(found[kind]) == pytest.approx(_fractions(said[kind]), rel=1e-3)
    assert event["notes"] == []
    with av.open(event["output"]) as film:
        assert film.streams.video[0].pix_fmt == "yuv420p10le"
    event = run(source, "--video-codec", "prores_ks", output="mov", code=SOME_FAILED)
    assert "prores_ks" in event["error"]


def _fractions(data):
    numbers = np.frombuffer(data, "<i4")
    if len(numbers) < 20:
        return list(numbers)
    return [above / below for above, below in zip(numbers[:20:2], numbers[1:20:2], strict=True)]


def rgba(number):
    rows = np.empty((12, 16, 4), np.uint8)
    rows[..., :3], rows[..., 3] = kinds.colors(number), 255
    rows[4:, 8:, 3] = 90
    return rows


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [(".mov", "prores_ks", "yuva444p10le"), (".mkv", "ffv1", "bgra")],
)
def test_alpha_is_kept_where_it_can_be_and_else_told(tmp_path, run, suffix, codec, pix_fmt):
    source = kinds.save(tmp_path / f"c{suffix}", 3, codec, pix_fmt, pixels=rgba, form="rgba")
    event = run(source, "--video-codec", codec)
    assert event["notes"] == []
    with av.open(event["output"]) as film:
        found = [frame.to_ndarray(format="rgba") for frame in film.decode(video=0)]
    assert max(differences(found, [rgba(n) for n in range(3)])) < CLOSE
    event = run(source)
    assert "alpha" in " ".join(event["notes"])


@pytest.mark.parametrize(
    ("suffix", "codec", "wanted"),
    [
        (".mp4", "libx265", "hevc"), (".mkv", "libx265", "hevc"), (".mp4", "libsvtav1", "av1"),
        (".webm", "libsvtav1", "av1"), (".mkv", "ffv1", "ffv1"), (".mkv", "prores_ks", "prores"),
        (".mov", "prores_ks", "prores"), (".mov", "libx264", "h264"),
    ],
)  # fmt: skip
def test_codecs_write_the_same_frames_in_segments(
    tmp_path, run, monkeypatch, suffix, codec, wanted
):
    big = {"pixels": lambda n: kinds.colors(n, (32, 48))}
    made_by = "libvpx-vp9" if suffix == ".webm" else "libx264"
    source = kinds.save(tmp_path / f"c{suffix}", 40, made_by, options={"crf": "4"}, **big)
    monkeypatch.setattr(film_plan, "SEGMENT_FRAMES", 12)
    event = run(source, "--video-codec", codec, "--crf", 4)
    times, found = films.shown(event["output"])
    assert times == films.shown(source)[0]
    assert max(differences(found, films.shown(source)[1])) < 2 * CLOSE
    with av.open(event["output"]) as film:
        assert film.streams.video[0].codec_context.codec.canonical_name == wanted


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".webm", "libx264"),
        (".webm", "ffv1"),
        (".mp4", "prores_ks"),
        (".mov", "ffv1"),
        (".mov", "libsvtav1"),
    ],
)
def test_codecs_that_a_container_cannot_hold_are_refused(tmp_path, run, suffix, codec):
    source = films.make_film(tmp_path / f"c{suffix}", 2, sound=False)
    event = run(source, "--video-codec", codec, code=SOME_FAILED)
    assert codec in event["error"]
    assert event["tiles"] == 0


def test_frames_that_a_codec_would_crash_on_are_refused(tmp_path, run):
    source = films.make_film(tmp_path / "c.mp4", 2, sound=False)
    event = run(source, "--video-codec", "libx265", "--scale", "3", code=SOME_FAILED)
    assert "48 pixels" in event["error"]


@pytest.mark.parametrize("kind", ["rgb", "lies", "grey", "interlaced"])
def test_half_of_such_a_film_by_an_earlier_version_is_begun_anew(tmp_path, run, monkeypatch, kind):
    monkeypatch.setattr(film_plan, "SEGMENT_FRAMES", 12)
    monkeypatch.setattr(unfinished, "SEGMENT_FRAMES", 12)
    if kind == "rgb":
        source = kinds.save(tmp_path / "c.mp4", 40, "libx264rgb", "rgb24")
    elif kind == "lies":
        source = kinds.save(tmp_path / "c.mp4", 40, container="matroska")
    elif kind == "grey":
        source = kinds.save(tmp_path / "c.mkv", 40, "ffv1", "gray")
    else:
        source = kinds.save_interlaced(tmp_path / "c.mkv", 40)
    restore, count = Model.restore, []

    def stopped(model, pixels, mask, on_progress):
        count.extend(pixels)
        if len(count) == 30:
            raise KeyboardInterrupt
        return restore(model, pixels, mask, on_progress)

    with monkeypatch.context() as patch:  # what that version made of it, under its name
        patch.setattr(Model, "restore", stopped)
        patch.setattr(unfinished, "look_at", lambda *_: Look((), ()))
        run(source, code=INTERRUPTED)
    (old,) = (tmp_path / "out" / SEGMENTS).iterdir()
    assert len(list(old.iterdir())) == 2
    count.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Model, "restore", stopped)
        run(source, code=INTERRUPTED)
    assert len(count) == 30
    assert not old.exists()
    run(source)
    assert files.left_behind(tmp_path / "out") == []


def test_results_of_earlier_versions_are_named_where_they_may_be_wrong(tmp_path, run):
    folder = tmp_path / "in"
    folder.mkdir()
    kinds.save_interlaced(folder / "woven.mkv", 4)
    kinds.save(folder / "plain.mkv", 4)
    run(folder)
    before = files.hashes(tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / NAME) as journal:  # as they noted it
        journal.execute("UPDATE files SET stamp = replace(stamp, ' rules 1', '')")
    journal.close()
    for _ in range(2):
        assert run(folder) is None
        (named,) = run.events("doubtful")
        assert named["output"].endswith("woven.mkv")
        assert "interlaced" in named["kind"]
    assert files.hashes(tmp_path / "out") == before
    (tmp_path / "out" / "woven.mkv").unlink()
    run(folder)
    assert files.hashes(tmp_path / "out") == before
    run(folder)
    assert run.events("doubtful") == []
