"""Segments of a film joined to one file, without encoding again."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..errors import InputError
from .film_encoder import FilmEncoder
from .film_reader import FilmReader, open_film, told_plainly
from .jobs import Job, Work
from .output_format import CONTAINERS
from .packages import import_av
from .segment_file import Table, read_packets, read_table

LEAST_SHARE = 0.95  # of the frames that a film says it has; fewer were cut off


def join_film(segments: Sequence[Job], part: Path, work: Work) -> None:
    """Writes a film to `part`: the frames of its segments, and the sound packet for packet.

    Raises InputError for a film that is not all there.
    """
    path = segments[0].source
    tables = [read_table(Path(segment.output)) for segment in segments]
    with told_plainly(), open_film(path) as source:
        _check_length(tables, source.streams.video[0].frames)
        av = import_av("films")
        container = CONTAINERS[Path(path).suffix.lower()][1]
        # Without the names that Matroska draws at random, the same film is the same file.
        options = {"fflags": "bitexact"} if container in ("matroska", "webm") else {}
        with av.open(str(part), "w", format=container, options=options) as target:
            found = _write(source, target, segments, tables, work)
    for segment, table, count in zip(segments, tables, found, strict=True):
        if table.sought and len(table.packets) != count:
            raise InputError(
                f"{len(table.packets)} of {count} frames were found from time stamp "
                f"{segment.begin} on: time stamps go back; write the film anew with other software"
            )


def _write(
    source: Any, target: Any, segments: Sequence[Job], tables: Sequence[Table], work: Work
) -> list[int]:
    """Returns how many frames of the input lie in each segment."""
    video = source.streams.video[0]
    target.metadata.update(source.metadata)
    sound = {
        stream.index: target.add_stream_from_template(stream) for stream in source.streams.audio
    }
    # It encodes nothing: it makes the stream the one that the segments were encoded for.
    encoder = FilmEncoder(target, video, FilmReader(source.name).first, work)
    _check_headers(tables, encoder)
    packets = _restored(segments, tables, video.time_base)
    found = [0] * len(segments)
    begins = [segment.begin for segment in segments]
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
        for restored in islice(packets, 1):
            restored.stream = encoder.stream
            target.mux(restored)
    for restored in packets:
        restored.stream = encoder.stream
        target.mux(restored)
    return found


def _restored(segments: Sequence[Job], tables: Sequence[Table], time_base: Any) -> Iterator[Any]:
    """Packets of all segments, as if one encoder had made them."""
    packets = chain.from_iterable(
        read_packets(Path(segment.output), table, time_base)
        for segment, table in zip(segments, tables, strict=True)
    )
    if len(tables) == 1:
        yield from packets
        return
    for packet, time in zip(packets, _decoding_times(tables), strict=False):
        packet.dts = time
        yield packet


def _decoding_times(tables: Sequence[Table]) -> Iterator[int]:
    """Those that one encoder would have set: a frame is decoded when the one is shown that comes
    `delay` frames before it, and the first frames as much earlier as the delay lasts."""
    delay = max(table.delay for table in tables)
    lead = list(islice(_times(tables), delay + 1))
    return chain((time - (lead[-1] - lead[0]) for time in lead[:delay]), _times(tables))


def _times(tables: Sequence[Table]) -> Iterator[int]:
    return chain.from_iterable(table.times for table in tables)


def _check_length(tables: Sequence[Table], said: int) -> None:
    seen = sum(len(table.packets) for table in tables)
    if seen < said * LEAST_SHARE or not seen:
        raise InputError(
            f"the film is cut off: {seen} of {said or 'its'} frames can be decoded; copy it again"
        )


def _check_headers(tables: Sequence[Table], encoder: FilmEncoder) -> None:
    if any(table.header != encoder.header for table in tables):
        raise InputError(
            "its segments were encoded by different versions of PyAV; install the same everywhere "
            "and run the same command again"
        )
