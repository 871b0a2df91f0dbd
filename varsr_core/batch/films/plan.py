"""Where a film is cut into segments, each restored and kept by itself."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from ..jobs import Film, Segment
from .reader import FIRST, LAST, input_errors, moving_picture, open_film

# Every segment begins with a key frame. Two seconds at 24 a second, as streaming services set them:
# a killed run loses no more, and a film keeps many GPUs busy.
SEGMENT_FRAMES = 48
LEAST_SECONDS = 1  # of a segment: some files guess a rate of thousands of frames
MOST_SEGMENTS = 100_000  # two days; a damaged file may claim to last for years


def plan_film(film: Film, folder: Path) -> list[Segment]:
    """The segments of a film, whose outputs lie in `folder`.

    What the file says at its beginning is enough: nothing is decoded. The last segment is at most
    half as long again as the others. Raises InputError for what is no film.
    """
    stamp = film.stamp()
    with input_errors(), open_film(film.source) as source:
        starts = _starts(source)
    ends = [*starts[1:], LAST]
    return [
        Segment(
            name=f"{film.name}/{number}",
            source=film.source,
            output=str(folder / f"{number:05}"),
            mask=film.mask,
            begin=begin,
            end=end,
            fraction=1 / len(starts),
            film_stamp=stamp,
        )
        for number, (begin, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _starts(source: Any) -> list[int]:
    """Of all segments, in the time base of the moving picture."""
    video = moving_picture(source)
    each = max(SEGMENT_FRAMES / frame_rate(video), Fraction(LEAST_SECONDS)) / video.time_base
    length = _seconds(source) / video.time_base
    count = min(max(1, round(length / each)), MOST_SEGMENTS)
    first = video.start_time or 0
    return [FIRST, *(first + round(number * each) for number in range(1, count))]


def guessed_frames(source: Any) -> int:
    """How many frames there may be, for progress alone."""
    video = moving_picture(source)
    return video.frames or max(1, round(_seconds(source, read=False) * frame_rate(video)))


def frame_rate(video: Any) -> Fraction:
    """Frames a second, of a stream."""
    return video.average_rate or video.guessed_rate or Fraction(25)


def _seconds(source: Any, read: bool = True) -> Fraction:
    """How long a film is; `read`: all of the file, where its beginning does not say."""
    video = moving_picture(source)
    if video.duration:
        return video.duration * video.time_base
    if source.duration or not read:
        return Fraction(source.duration or 0, 1_000_000)
    times = (packet.pts for packet in source.demux(video) if packet.pts is not None)
    first = video.start_time or 0
    return (max(times, default=first) - first) * video.time_base
