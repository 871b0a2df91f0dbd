"""What a film holds beside its frames: kept, converted, or told."""

import av
import numpy as np
import pytest

from helpers import batch_files as files
from helpers import film_files as films
from helpers import film_kinds as kinds
from varsr_core.batch.__main__ import INTERRUPTED, SOME_FAILED
from varsr_core.batch.films import plan as film_plan
from varsr_core.batch.films import unfinished
from varsr_core.batch.films.sound import ConvertedSound
from varsr_core.batch.model import Model

SUFFIXES = list(kinds.SUBTITLES)


def heard(path, track=0):
    """Samples of a track (channels, samples) and the time of the first, in seconds."""
    with av.open(str(path)) as source:
        frames = list(source.decode(audio=track))
    resampler = av.AudioResampler("fltp", frames[0].layout.name, frames[0].sample_rate)
    parts = [one.to_ndarray() for frame in frames for one in resampler.resample(frame)]
    return np.concatenate(parts, axis=1), float(frames[0].pts * frames[0].time_base)


def copies(path):
    """Bytes of all packets of each track that is no moving picture, by its place."""
    with av.open(str(path)) as source:
        found = {stream.index: [] for stream in source.streams if stream.type == "audio"}
        for packet in source.demux():
            if packet.stream.index in found and packet.size:
                found[packet.stream.index].append(bytes(packet))
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_container_keeps_all_that_it_had_and_in_its_order(tmp_path, run, suffix):
    source = kinds.save_everything(tmp_path / f"c{suffix}")
    event = run(source)
    result = event["output"]
    assert event["notes"] == []
    assert kinds.tracks(result) == kinds.tracks(source)
    assert len(kinds.tracks(result)) == {".mkv": 6, ".mp4": 5}.get(suffix, 4)
    assert kinds.subtitles(result) == kinds.subtitles(source) == kinds.LINES
    assert kinds.chapters(result) == kinds.chapters(source) == kinds.CHAPTERS
    assert kinds.time_codes(result) == {tuple(map(int, kinds.TIME_CODE.split(":")))}
    assert copies(result) == copies(source)
    assert films.shown(result)[0] == films.shown(source)[0]
    with av.open(result) as film:
        assert film.metadata["title"] == "My film"
        for stream in film.streams.attachments:
            assert stream.data == b"glyphs" * 10


def test_what_a_container_cannot_hold_is_converted_or_told(tmp_path, run):
    """Matroska called .webm: Opus and WebVTT, and no attachments."""
    source = kinds.save_everything(tmp_path / "c.mkv").rename(tmp_path / "c.webm")
    event = run(source)
    notes = " | ".join(event["notes"])
    assert notes.count("opus") == 2
    assert "webvtt" in notes
    assert "cover picture" in notes
    assert "font.ttf" in notes
    given, found = kinds.tracks(source), kinds.tracks(event["output"])
    assert [track[1] for track in found] == ["opus", "vp9", "opus", "webvtt"]
    assert [track[2:] for track in found] == [track[2:] for track in given[:4]]
    assert kinds.subtitles(event["output"]) == kinds.LINES
    assert films.shown(event["output"])[0] == films.shown(source)[0]
    for track in (0, 1):
        (a, start_a), (b, start_b) = heard(source, track), heard(event["output"], track)
        assert abs(start_a - start_b) < 0.03
        assert abs(a.shape[1] - b.shape[1]) < 3000
        length = min(a.shape[1], b.shape[1])
        assert np.abs(a[:, 2000 : length - 3000] - b[:, 2000 : length - 3000]).mean() < 0.02


@pytest.mark.parametrize(("name", "kept"), [("c.mkv", True), ("c.webm", False)])
def test_subtitles_in_pictures_are_kept_or_told(tmp_path, run, name, kept):
    source = tmp_path / name
    with av.open(str(source), "w", format="matroska") as target:
        video = target.add_stream("libx264", rate=films.RATE)
        video.height, video.width, video.pix_fmt = 12, 16, "yuv420p"
        text = target.add_mux_stream("hdmv_pgs_subtitle", time_base=kinds.MS)
        text.metadata["language"] = "dut"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(kinds.colors(number), format="rgb24")
            frame.pts = number
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
        packet = av.Packet(bytes([0x80, 0, 0]))  # the end of a set of segments
        packet.stream, packet.time_base, packet.pts, packet.dts = text, kinds.MS, 500, 500
        target.mux(packet)
    event = run(source)
    found = [track[:3] for track in kinds.tracks(event["output"])[1:]]
    if kept:
        assert found == [("subtitle", "pgssub", "dut")]
        assert event["notes"] == []
    else:
        assert found == []
        assert ["subtitles" in note and "dut" in note for note in event["notes"]] == [True]


def save_sound(path, codec, rate=films.SOUND_RATE, container=None, channels="stereo", picture=None):
    """A film with a tone for sound."""
    with av.open(str(path), "w", format=container) as target:
        video = target.add_stream(picture or "mpeg4", rate=films.RATE)
        video.height, video.width, video.pix_fmt = 12, 16, "yuv420p"
        sound = target.add_stream(codec, rate=rate)
        sound.layout = channels
        resampler = av.AudioResampler(sound.format, channels, rate)
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(kinds.colors(number), format="rgb24")
            frame.pts = number
            target.mux(video.encode(frame))
            for one in resampler.resample(films.tone(number)):
                target.mux(sound.encode(one))
        for stream in (video, sound):
            target.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav"])
def test_sound_that_matroska_cannot_hold_is_converted_without_loss(tmp_path, run, codec):
    source = save_sound(tmp_path / "old.avi", codec)
    event = run(source)
    assert ["flac" in note for note in event["notes"]] == [True]
    assert event["output"].endswith("old.mkv")
    given, found = heard(source)[0], heard(event["output"])[0]
    np.testing.assert_array_equal(found, given)
    assert films.shown(event["output"])[0] == films.shown(source)[0]


def test_sound_that_mp4_cannot_hold_is_converted(tmp_path, run):
    """Of phones, in 3GP."""
    source = save_sound(
        tmp_path / "c.mp4", "libopencore_amrnb", 8000, "3gp", "mono", picture="libx264"
    )
    event = run(source)
    assert ["aac" in note for note in event["notes"]] == [True]
    (given, start), (found, begun) = heard(source), heard(event["output"])
    assert abs(start - begun) < 0.14  # AAC begins with a packet of its own
    assert abs(given.shape[1] - found.shape[1]) < 2100


def test_sound_may_change(tmp_path, run):
    """As in what was cut from broadcasts: another rate and layout."""
    source = tmp_path / "c.webm"
    with av.open(str(source), "w", format="matroska") as target:
        video = target.add_stream("libx264", rate=films.RATE)
        video.height, video.width, video.pix_fmt = 12, 16, "yuv420p"
        sound = target.add_stream("mp2", rate=48_000)
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(kinds.colors(number), format="rgb24")
            frame.pts = number
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
        for begin, rate, layout in ((0, 48_000, "stereo"), (1000, 32_000, "mono")):
            encoder = av.CodecContext.create("mp2", "w")
            encoder.sample_rate, encoder.layout, encoder.format = rate, layout, "s16"
            resampler = av.AudioResampler("s16", layout, rate)
            packets = []
            for number in range(4):
                for one in resampler.resample(films.tone(number)):
                    packets += encoder.encode(one)
            for number, packet in enumerate(packets):
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base = sound, kinds.MS
                copy.pts = copy.dts = begin + number * 1152 * 1000 // rate
                target.mux(copy)
    event = run(source)
    assert event["notes"][0].endswith("opus")
    samples, _ = heard(event["output"])
    assert samples.shape[1] > 1.6 * 48_000
    assert films.shown(event["output"])[0] == films.shown(source)[0]


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.webm"])
def test_sound_whose_times_go_back_is_converted(tmp_path, name):
    source = save_sound(tmp_path / "source.mkv", "mp2")
    container = {"mkv": "matroska"}.get(name[2:], name[2:])
    with av.open(str(source)) as given, av.open(str(tmp_path / name), "w", container) as target:
        converted = ConvertedSound(given.streams.audio[0], target)
        for number, packet in enumerate(given.demux(audio=0)):
            if number % 7 == 6 and packet.pts:
                packet.pts = packet.dts = packet.pts - 100
            target.mux(converted.packets(packet))
    assert abs(heard(tmp_path / name)[0].shape[1] - heard(source)[0].shape[1]) < 10_000


def test_sound_of_broadcasts_is_written_as_matroska_has_it(tmp_path, run):
    """AAC with a header before each packet, not one for all."""
    source = save_sound(tmp_path / "c.mp4", "aac", container="mpegts", picture="libx264")
    event = run(source)
    assert event["output"].endswith("c.mkv")
    given, found = heard(source)[0], heard(event["output"])[0]
    np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize(("audio", "tracks"), [("copy", None), ("none", 1), ("convert", 2)])
def test_sound_is_treated_as_asked(tmp_path, run, audio, tracks):
    """It is known before the first frame what the container cannot hold."""
    source = save_sound(tmp_path / "old.avi", "adpcm_ms")
    event = run(source, "--audio", audio, code=0 if tracks else SOME_FAILED)
    if tracks is None:
        assert "--audio" in event["error"]
        assert event["tiles"] == 0
        return
    with av.open(event["output"]) as film:
        assert len(film.streams) == tracks
    assert len(event["notes"]) == 1


def test_sound_that_could_be_copied_is_converted_where_asked(tmp_path, run):
    source = films.make_film(tmp_path / "c.mkv", 8)
    event = run(source, "--audio", "convert")
    assert [track[1] for track in kinds.tracks(event["output"])] == ["h264", "flac"]
    event = run(source, "--audio", "copy", output="copied")
    assert films.heard(event["output"]) == films.heard(source)


def test_killed_run_goes_on_to_the_same_file(tmp_path, run, monkeypatch):
    """With sound and subtitles that are converted."""
    monkeypatch.setattr(film_plan, "SEGMENT_FRAMES", 12)
    monkeypatch.setattr(unfinished, "SEGMENT_FRAMES", 12)
    source = kinds.save_everything(tmp_path / "c.mkv", 40).rename(tmp_path / "c.webm")
    run(source, output="whole")
    count, restore = [], Model.restore

    def stopped(model, pixels, mask, on_progress):
        count.extend(pixels)
        if len(count) == 29:
            raise KeyboardInterrupt
        return restore(model, pixels, mask, on_progress)

    monkeypatch.setattr(Model, "restore", stopped)
    run(source, code=INTERRUPTED)
    event = run(source)
    assert len(event["notes"]) == 5
    assert len(count) == 40 + 5
    assert files.hashes(tmp_path / "out") == files.hashes(tmp_path / "whole")


@pytest.mark.parametrize(
    ("container", "name", "result"),
    [
        ("matroska", "c.mp4", "c.mkv"), ("matroska", "c.mov", "c.mkv"), ("mp4", "c.mkv", "c.mkv"),
        ("mp4", "c.webm", "c.mp4"), ("mp4", "c.avi", "c.mp4"), ("mov", "c.webm", "c.mov"),
        ("avi", "c.mp4", "c.mkv"), ("mpegts", "c.mp4", "c.mkv"), ("matroska", "c.avi", "c.mkv"),
    ],
)  # fmt: skip
def test_container_is_chosen_by_what_the_file_is(tmp_path, run, container, name, result):
    source = save_sound(tmp_path / name, "mp2", container=container)
    event = run(source)
    assert event["output"] == str(tmp_path / "out" / result)
    wanted = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov"}[result[1:]]
    with av.open(event["output"]) as film:
        assert wanted in film.format.name
        assert [stream.type for stream in film.streams] == ["video", "audio"]
    assert len(films.shown(event["output"])[1]) == 8


def save_song(path):
    """Sound with a cover picture."""
    with av.open(str(path), "w") as target:
        sound = kinds.add_sound(target, "aac", "eng", "Song")
        cover = target.add_stream("mjpeg")
        cover.height, cover.width, cover.pix_fmt = 24, 32, "yuvj420p"
        cover.disposition = 1024
        packet = av.Packet(kinds.jpeg())
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = cover, 0, 0, True
        target.mux(packet)
        for number in range(8):
            target.mux(sound.encode(films.tone(number)))
        target.mux(sound.encode(None))
    return path


def cover_first(path):
    """What is said of the whole film, the cover among it, moved before what is said of tracks."""
    content = path.read_bytes()
    start = content.index(b"moov") - 4
    end = start + int.from_bytes(content[start : start + 4], "big")
    place, parts = start + 8, []
    while place < end:
        size = int.from_bytes(content[place : place + 4], "big")
        parts.append(content[place : place + size])
        place += size
    parts.sort(key=lambda part: part[4:8] != b"udta")
    path.write_bytes(content[: start + 8] + b"".join(parts) + content[end:])
    return path


def test_cover_picture_is_no_film(tmp_path, run):
    event = run(save_song(tmp_path / "song.mp4"), code=SOME_FAILED)
    assert "no moving picture" in event["error"]


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv"])
def test_cover_is_kept_beside_the_film(tmp_path, run, name):
    source = kinds.save_everything(tmp_path / name)
    assert _cover(run(source)["output"]) == kinds.jpeg()


def test_cover_before_the_film_is_not_taken_for_it(tmp_path, run):
    source = cover_first(kinds.save_everything(tmp_path / "c.mp4"))
    with av.open(str(source)) as film:
        assert film.streams.video[0].disposition & 1024
    event = run(source)
    assert _cover(event["output"]) == kinds.jpeg()
    with av.open(event["output"]) as film:
        shown = [stream for stream in film.streams.video if not stream.disposition & 1024]
        assert [(stream.width, stream.height) for stream in shown] == [(64, 48)]
        assert sum(1 for _ in film.decode(shown[0])) == 8


def _cover(path):
    with av.open(path) as film:
        (cover,) = [stream for stream in film.streams.video if stream.disposition & 1024]
        return next(bytes(packet) for packet in film.demux(cover) if packet.size)
