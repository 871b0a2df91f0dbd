"""Films of kinds that people have: coded as RGB, interlaced, with many tracks, and so on."""

import io
import re
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet
from PIL import Image

from helpers import film_files as films

SIZE = (12, 16)
SUBTITLES = {".mkv": "srt", ".mp4": "mov_text", ".mov": "mov_text", ".webm": "webvtt"}
ASS_HEAD = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
    b"Style: Default,Arial,16\n\n[Events]\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)
LINES = {500: "Hello", 1250: "Good bye"}  # by milliseconds
LINE_MS = 400
CHAPTERS = ((0, 1000, "One"), (1000, 2000, "Two"))
TIME_CODE = "01:02:03:02"
MS = Fraction(1, 1000)


def colors(number, size=SIZE):
    """Patches of strong colours, the first one wider in every frame: (H, W, 3) uint8."""
    rows = np.empty((*size, 3), np.uint8)
    rows[:], rows[: size[0] // 2] = (200, 60, 20), (30, 90, 210)
    rows[:, : size[1] // 4 + number % 4] = (40, 190, 80)
    return rows


def save(
    path, frames=8, codec="libx264", pix_fmt="yuv420p", options=None, pixels=colors, form="rgb24",
    matrix=None, container=None, **context,
):  # fmt: skip
    """A film of one track; pixels: of a frame's number, (H, W, 3 or 4)."""
    with av.open(str(path), "w", format=container) as target:
        video = target.add_stream(codec, rate=films.RATE, options=options or {})
        height, width = pixels(0).shape[:2]
        video.height, video.width, video.pix_fmt = height, width, pix_fmt
        for name, value in context.items():
            setattr(video.codec_context, name, value)
        if matrix:
            video.set_display_matrix(matrix)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(pixels(number), format=form)
            frame = frame.reformat(format=pix_fmt, dst_colorspace=5)
            frame.pts, frame.time_base = number, Fraction(1, films.RATE)
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
    return path


def combed(number, size=(16, 32)):
    """A bar that moves between the fields of a frame."""
    rows = np.full((*size, 3), 60, np.uint8)
    for parity in (0, 1):
        x = 2 * (2 * number + parity) % (size[1] - 8)
        rows[parity::2, x : x + 8] = (210, 180, 60)
    return rows


def save_interlaced(path, frames=8, codec="mpeg2video", **context):
    options = {
        "mpeg2video": {"flags": "+ildct+ilme", "g": "6", "strict": "experimental"},
        "libx264": {"x264-params": "interlaced=1", "crf": "4", "g": "6"},
        "ffv1": {},
    }[codec]
    return save(path, frames, codec, options=options, pixels=combed, **context)


def save_resizing(path, frames=12, sizes=((12, 16), (24, 32)), change=7):
    """Motion JPEG, of which every frame says its size."""
    with av.open(str(path), "w") as target:
        video = target.add_stream("mjpeg", rate=films.RATE)
        video.height, video.width, video.pix_fmt = *sizes[0], "yuvj420p"
        for number in range(frames):
            size = sizes[number >= change]
            y, x = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None]
            rows = (200 * np.stack((x, y, 0.5 * (x + y)), axis=-1) + 20).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(rows).save(buffer, "JPEG", quality=98)
            packet = av.Packet(buffer.getvalue())
            packet.stream, packet.is_keyframe = video, True
            packet.pts = packet.dts = number
            packet.duration, packet.time_base = 1, Fraction(1, films.RATE)
            target.mux(packet)
    return path


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def add_sound(target, codec, language, title, flags=0, rate=films.SOUND_RATE):
    sound = target.add_stream(codec, rate=rate)
    sound.layout = "stereo"
    sound.metadata.update(language=language, title=title)
    sound.disposition = flags
    return sound


def add_subtitles(target, codec, language, title, flags=0):
    text = target.add_stream(codec)
    text.metadata.update(language=language, title=title)
    text.disposition = flags
    text.codec_context.subtitle_header = ASS_HEAD
    text.codec_context.time_base = text.time_base = MS
    return text


def save_everything(path, frames=8, container=None):
    """Sound, picture, sound, subtitles, and what else its container has room for."""
    suffix = path.suffix
    matroska = suffix in (".mkv", ".webm")
    choices = {"container_options": {"default_mode": "passthrough"}} if matroska else {}
    with av.open(str(path), "w", format=container, **choices) as target:
        target.metadata["title"] = "My film"
        codec = "libopus" if suffix == ".webm" else "aac"
        sounds = [add_sound(target, codec, "ger", "Deutsch")]
        video = target.add_stream("libvpx-vp9" if suffix == ".webm" else "libx264", rate=films.RATE)
        video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
        video.metadata.update(title="Picture", timecode=TIME_CODE)
        video.disposition = Disposition.default
        sounds.append(add_sound(target, codec, "eng", "English", Disposition.default))
        text = add_subtitles(target, SUBTITLES[suffix], "fra", "Sous-titres", Disposition.forced)
        cover = None
        if suffix == ".mkv":
            target.add_attachment("cover.jpg", "image/jpeg", jpeg())
            target.add_attachment("font.ttf", "font/ttf", b"glyphs" * 10)
        if suffix == ".mp4":
            cover = target.add_stream("mjpeg")
            cover.height, cover.width, cover.pix_fmt = 24, 32, "yuvj420p"
            cover.disposition = Disposition.attached_pic
        target.set_chapters(
            [
                {"id": number, "start": start, "end": end, "time_base": MS,
                 "metadata": {"title": title}}
                for number, (start, end, title) in enumerate(CHAPTERS, 1)
            ]
        )  # fmt: skip
        if cover:
            packet = av.Packet(jpeg())
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = cover, 0, 0, True
            target.mux(packet)
        lines = dict(LINES)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(colors(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, films.RATE)
            target.mux(video.encode(frame))
            for sound in sounds:
                target.mux(sound.encode(films.tone(number)))
            for start in [start for start in lines if start <= 1000 * number // films.RATE]:
                target.mux(_line(text, start, lines.pop(start)))
        for stream in (video, *sounds):
            target.mux(stream.encode(None))
    return path


def _line(stream, start, words):
    text = SubtitleSet.create(f"0,0,Default,,0,0,0,,{words}".encode(), 0, LINE_MS, start)
    packet = stream.codec_context.encode_subtitle(text)
    packet.stream, packet.time_base = stream, MS
    packet.pts = packet.dts = start
    packet.duration = LINE_MS
    return packet


def tracks(path):
    """Type, codec, language, title, flags of every track but those that muxers add."""
    with av.open(str(path)) as source:
        return [
            (
                stream.type,
                stream.name if stream.type != "attachment" else stream.metadata["filename"],
                stream.language if stream.language != "und" else None,
                stream.metadata.get("title") or stream.metadata.get("name"),
                int(stream.disposition),
            )
            for stream in source.streams
            if stream.type != "data"
        ]


def subtitles(path):
    """Milliseconds and words of all lines."""
    found = {}
    with av.open(str(path)) as source:
        for packet in source.demux(subtitles=0):
            for line in packet.decode() if packet.size else ():
                words = re.sub(r"\{.*?\}", "", line.ass.decode().split(",", 8)[-1]).strip()
                if words:
                    found[round(packet.pts * packet.time_base * 1000)] = words
    return found


def chapters(path):
    with av.open(str(path)) as source:
        return tuple(
            (*(round(c[end] * c["time_base"] * 1000) for end in ("start", "end")),
             c["metadata"]["title"])
            for c in source.chapters()
        )  # fmt: skip


def time_codes(path):
    """Of the film and its moving picture, without leading zeros."""
    with av.open(str(path)) as source:
        found = (*source.metadata.items(), *source.streams.video[0].metadata.items())
        codes = {value for name, value in found if name.lower() == "timecode"}
        return {tuple(map(int, code.split(":"))) for code in codes}


def side_data(path):
    """Of the first frame, by kind."""
    with av.open(str(path)) as source:
        frame = next(source.decode(video=0))
        return {one.type.name: bytes(one) for one in frame.side_data}
