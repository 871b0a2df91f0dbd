"""Segments of a film joined to one file, without encoding again."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..jobs import Job, Work
from ..optional import import_av
from ..output_format import CONTAINERS
from .encoder import FilmEncoder
from .reader import FilmReader, open_film, told_plainly
from .segment_file import read_packets, read_table

LEAST_SHARE = 0.95  # of the frames that a film says it has; fewer were cut off


@dataclass
class _Part:
    """A segment as its file tells of it; its table is read when needed, not kept."""

    path: Path
    begin: int
    header: str
    sought: bool
    frames: int
    delay: int

    @classmethod
    def of(cls, segment: Job) -> _Part:
        path = Path(segment.output)
        table = read_table(path)
        frames = len(table.packets)
        return cls(path, segment.begin, table.header, table.sought, frames, table.delay)

    def times(self) -> list[int]:
        return read_table(self.path).times

    def packets(self, time_base: Fraction) -> Iterator[Any]:
        return read_packets(self.path, read_table(self.path), time_base)


def join_film(segments: Sequence[Job], path: Path, work: Work) -> None:
    """Writes a film to `path`: the frames of its segments, and the sound packet for packet.

    Raises InputError for a film that is not all there.
    """
    name = segments[0].source
    parts = [_Part.of(segment) for segment in segments]
    with told_plainly(), open_film(name) as source:
        _check_length(parts, source.streams.video[0].frames)
        av = import_av("films")
        container = CONTAINERS[Path(name).suffix.lower()][1]
        # Without the names that Matroska draws at random, the same film is the same file.
        options = {"fflags": "bitexact"} if container in ("matroska", "webm") else {}
        with av.open(str(path), "w", format=container, options=options) as target:
            found = _write(source, target, parts, work)
    for part, count in zip(parts, found, strict=True):
        if part.sought and part.frames != count:
            raise InputError(
                f"{part.frames} of {count} frames were found from time stamp {part.begin} on: "
                "time stamps go back; convert the film to another container first"
            )


def _write(source: Any, target: Any, parts: Sequence[_Part], work: Work) -> list[int]:
    """Returns how many frames of the input lie in each segment."""
    video = source.streams.video[0]
    target.metadata.update(source.metadata)
    sound = {
        stream.index: target.add_stream_from_template(stream) for stream in source.streams.audio
    }
    # It encodes nothing: it makes the stream the one that the segments were encoded for.
    encoder = FilmEncoder(target, video, FilmReader(source.name).first, work)
    _check_headers(parts, encoder)
    packets = _restored(parts, encoder.stream, video.time_base)
    found = [0] * len(parts)
    begins = [part.begin for part in parts]
    # In the order of the input, so that what the container holds back to sort is little.
    for packet in source.demux(video, *source.streams.audio):
        if packet.dts is None and not packet.size:  # the end of a stream
            continue
        if packet.stream.index in sound:
            packet.stream = sound[packet.stream.index]
            target.mux(packet)
            continue
        if packet.pts is not None and not packet.is_discard:
            found[bisect(begins, packet.pts) - 1] += 1
        target.mux(islice(packets, 1))
    target.mux(packets)
    return found


def _restored(parts: Sequence[_Part], stream: Any, time_base: Fraction) -> Iterator[Any]:
    """Packets of all segments, as if one encoder had made them."""
    packets = chain.from_iterable(part.packets(time_base) for part in parts)
    times = _decoding_times(parts) if len(parts) > 1 else None
    for packet in packets:
        packet.stream = stream
        if times is not None:
            packet.dts = next(times)
        yield packet


def _decoding_times(parts: Sequence[_Part]) -> Iterator[int]:
    """Those that one encoder would have set: a frame is decoded when the one is shown that comes
    `delay` frames before it, and the first frames as much earlier as the delay lasts."""
    delay = max(part.delay for part in parts)
    lead = list(islice(_times(parts), delay + 1))
    return chain((time - (lead[-1] - lead[0]) for time in lead[:delay]), _times(parts))


def _times(parts: Sequence[_Part]) -> Iterator[int]:
    return chain.from_iterable(part.times() for part in parts)


def _check_length(parts: Sequence[_Part], said: int) -> None:
    seen = sum(part.frames for part in parts)
    if seen < said * LEAST_SHARE or not seen:
        raise InputError(
            f"the film is cut off: {seen} of {said or 'its'} frames can be decoded; copy it again"
        )


def _check_headers(parts: Sequence[_Part], encoder: FilmEncoder) -> None:
    foreign = [part for part in parts if part.header != encoder.header]
    for part in foreign:
        part.path.unlink(missing_ok=True)
    if foreign:
        raise InputError(
            f"{len(foreign)} of {len(parts)} segments were encoded by another version of PyAV; "
            "install the same everywhere, and run the same command again to restore them anew"
        )
