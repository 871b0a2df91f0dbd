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
from ..jobs import Segment
from ..optional import import_av
from ..options import Options
from .encoder import FilmEncoder
from .reader import METADATA_ERRORS, FilmReader, input_errors, moving_picture, open_film
from .segment_file import read_packets, read_table
from .tracks import Tracks

BRANDS = ("major_brand", "minor_version", "compatible_brands")  # of MP4 and MOV
LEAST_FRAMES = 0.95  # of the frames that a film says it has; fewer were cut off


@dataclass
class _Stored:
    """What a segment's file says of it; its packets, which may be many, are read when needed."""

    path: Path
    begin: int
    header: str
    sought: bool
    frames: int
    delay: int

    @classmethod
    def of(cls, segment: Segment) -> _Stored:
        path = Path(segment.output)
        table = read_table(path)
        frames = len(table.packets)
        return cls(path, segment.begin, table.header, table.sought, frames, table.delay)

    def times(self) -> list[int]:
        return read_table(self.path).times

    def packets(self, time_base: Fraction) -> Iterator[Any]:
        return read_packets(self.path, read_table(self.path), time_base)


def join_film(segments: Sequence[Segment], path: Path, options: Options) -> None:
    """Writes a film to `path`: the frames of its segments, and the sound packet for packet.

    Raises InputError for a film that is not all there.
    """
    name = segments[0].source
    stored = [_Stored.of(segment) for segment in segments]
    with input_errors(), open_film(name) as source:
        _check_length(stored, moving_picture(source).frames)
        container = options.form.of_film(Path(name))[1]
        with open_result(path, container) as target:
            found = _write(source, target, stored, options)
    for one, count in zip(stored, found, strict=True):
        if one.sought and one.frames != count:
            raise InputError(
                f"{one.frames} of {count} frames were found from time stamp {one.begin} on: "
                "time stamps go back; convert the film to another container first"
            )


def open_result(file: Any, container: str) -> Any:
    """A file to be written; file: its path, or a stream of bytes."""
    choices: dict[str, Any] = {"format": container, "metadata_errors": METADATA_ERRORS}
    if container in ("matroska", "webm"):
        # Without the names that Matroska draws at random, the same film is the same file. With the
        # plus, flags that are set by default stay: by one of them, AAC is rewritten for Matroska.
        choices["options"] = {"fflags": "+bitexact"}
        choices["container_options"] = {"default_mode": "passthrough"}
    target = str(file) if isinstance(file, Path) else file
    return import_av("films").open(target, "w", **choices)


def _write(source: Any, target: Any, stored: Sequence[_Stored], options: Options) -> list[int]:
    """Returns how many frames of the input lie in each segment."""
    video = moving_picture(source)
    form = options.form
    reader = FilmReader(source.name, form.deinterlaces)
    target.metadata.update(
        (name, value)
        for name, value in source.metadata.items()
        if name not in BRANDS or target.format.name in ("mp4", "mov")
    )
    # It encodes nothing here; the stream is to say what the segments were encoded with.
    made: list[FilmEncoder] = []

    def picture() -> Any:
        made.append(FilmEncoder(target, video, reader.first, options, bool(reader.woven)))
        return made[0].stream

    tracks = Tracks(source, target, form.audio, picture)
    encoder = made[0]
    _check_headers(stored, encoder)
    packets = _restored(stored, encoder.stream, video.time_base)
    found = [0] * len(stored)
    begins = [one.begin for one in stored]
    # In the order of the input, so that the muxer, which sorts, has little to hold back.
    for packet in source.demux(video, *tracks.streams):
        if packet.stream != video:
            target.mux(tracks.packets(packet))
            continue
        if packet.dts is None and not packet.size:  # the end of a stream
            continue
        if packet.pts is not None and not packet.is_discard:
            found[bisect(begins, packet.pts) - 1] += 1
        target.mux(islice(packets, 1))
    target.mux(packets)
    return found


def _restored(stored: Sequence[_Stored], stream: Any, time_base: Fraction) -> Iterator[Any]:
    """Packets of all segments, as if one encoder had made them."""
    packets = chain.from_iterable(one.packets(time_base) for one in stored)
    times = _decoding_times(stored) if len(stored) > 1 else None
    for packet in packets:
        packet.stream = stream
        if times is not None:
            packet.dts = next(times)
        yield packet


def _decoding_times(stored: Sequence[_Stored]) -> Iterator[int]:
    """Those that one encoder would have set: a frame is decoded when the one is shown that comes
    `delay` frames before it, and the first frames as much earlier as the delay lasts."""
    delay = max(one.delay for one in stored)
    lead = list(islice(_times(stored), delay + 1))
    return chain((time - (lead[-1] - lead[0]) for time in lead[:delay]), _times(stored))


def _times(stored: Sequence[_Stored]) -> Iterator[int]:
    return chain.from_iterable(one.times() for one in stored)


def _check_length(stored: Sequence[_Stored], said: int) -> None:
    seen = sum(one.frames for one in stored)
    if seen < said * LEAST_FRAMES or not seen:
        raise InputError(
            f"the film is cut off: {seen} of {said or 'its'} frames can be decoded; copy it again"
        )


def _check_headers(stored: Sequence[_Stored], encoder: FilmEncoder) -> None:
    foreign = [one for one in stored if one.header != encoder.header]
    for one in foreign:
        one.path.unlink(missing_ok=True)
    if foreign:
        raise InputError(
            f"{len(foreign)} of {len(stored)} segments were encoded by another version of PyAV; "
            "install the same everywhere, and run the same command again to restore them anew"
        )
