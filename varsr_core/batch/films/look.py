"""What is known of a film before the first frame is restored: what becomes of all that it holds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..jobs import Film
from ..optional import import_av
from ..options import Options
from .codecs import Mastering, VideoCodec, codec_for
from .containers import lies
from .encoder import FilmEncoder
from .join import open_result
from .pixels import Turn, carried, coded_as_rgb, has_alpha, has_no_color
from .reader import STILL, FilmReader, input_errors, purposes
from .tracks import Tracks

RULE = 1  # of how such films are restored that earlier versions restored wrongly
SMALL = 64  # pixels, for an encoder that is not to be used
SAMPLES = 8  # places where it is looked whether a film stays what it is at its beginning


@dataclass(frozen=True)
class Look:
    """mended: what is the matter with the film that earlier versions restored wrongly
    notes:  what is converted or left out, in words"""

    mended: tuple[str, ...]
    notes: tuple[str, ...]


def look_at(film: Film, options: Options) -> Look:
    """Raises InputError for what is no film, and for choices that the result cannot hold."""
    path = Path(film.source)
    container = options.form.of_film(path)[1]
    with input_errors():
        codec = codec_for(container, options)
        reader = FilmReader(film.source, deinterlace=False)
        notes = _tracks(reader, container, options)
        samples = [reader.first, *_samples(reader)]
        resized = len({_size(frame) for frame in samples}) > 1
        woven = bool(reader.woven) or any(frame.interlaced_frame for frame in samples)
    if woven:
        notes.append("deinterlaced" if options.form.deinterlaces else "interlaced, and left so")
    if resized:
        notes.append("frames of other sizes than the first are scaled to its size")
    notes += _not_held(reader, codec)
    mended = {
        "coded as RGB": coded_as_rgb(reader.first),
        "mirrored": Turn.of(reader.first).mirrored,
        "turned, of pixels that are not square": Turn.of(reader.first).transposed
        and reader.video.sample_aspect_ratio not in (None, 0, 1),
        "of frames that change their size": resized,
        "in black and white": all(map(has_no_color, samples)),
        "interlaced": woven and options.form.deinterlaces,
        "of high dynamic range": codec.mastering and Mastering.of(reader.first) != Mastering(),
        "with a cover picture before its frames": bool(
            purposes(reader.source.streams.video[0]) & STILL
        ),
        "of another kind than its name says": lies(path),
    }
    return Look(tuple(words for words, so in mended.items() if so), tuple(notes))


def _tracks(reader: FilmReader, container: str, options: Options) -> list[str]:
    """What becomes of the other tracks; the head of the result is written in memory."""
    av = import_av("films")
    target = open_result(io.BytesIO(), container)

    def picture() -> Any:
        stream = FilmEncoder(target, reader.video, reader.first, options).stream
        stream.codec_context.width = stream.codec_context.height = SMALL
        return stream

    try:
        tracks = Tracks(reader.source, target, options.form.audio, picture)
        target.start_encoding()
        return tracks.notes
    except (av.error.FFmpegError, ValueError) as error:
        raise InputError(
            f"the result cannot be begun as {container} ({error}); choose another --video-codec or "
            "--audio, or convert the film to .mkv first"
        ) from None
    finally:
        with suppress(av.error.FFmpegError):  # nothing is in it
            target.close()


def _samples(reader: FilmReader) -> Iterator[Any]:
    """Frames from all over the film, as far as they are found."""
    av = import_av("films")
    video = reader.video
    length = video.duration or (reader.source.duration or 0) / 1_000_000 / video.time_base
    for number in range(1, SAMPLES + 1):
        with suppress(av.error.FFmpegError, StopIteration):
            place = (video.start_time or 0) + int(length * number / (SAMPLES + 1))
            reader.source.seek(place, stream=video)
            yield next(reader.source.decode(video))


def _size(frame: Any) -> tuple[int, int]:
    size = frame.width, frame.height
    return size[::-1] if Turn.of(frame).transposed else size


def _not_held(reader: FilmReader, codec: VideoCodec) -> Iterator[str]:
    """What the frames hold and the codec does not."""
    if has_alpha(reader.first) and not codec.alpha:
        yield f"alpha left out, which {codec.name} cannot hold"
    if reader.video.metadata.get("alpha_mode") == "1":
        yield "alpha left out, which FFmpeg's decoders of VP8 and VP9 do not give"
    mastering = Mastering.of(reader.first)
    if mastering != Mastering() and not codec.mastering:
        yield f"mastering display and light level left out, which {codec.name} cannot hold"
    yield from (f"{words} left out" for words in carried(reader.first))
