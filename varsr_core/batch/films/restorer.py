"""Films, segment by segment: in memory are never more than a few frames, however long one is."""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...tiling.steady import Clip, run_in_frames
from ..jobs import Segment
from ..model import Model
from ..optional import import_av
from ..options import Options
from ..outcome import Outcome, attempt
from ..part_files import whole_result
from ..pictures.reading import read_mask
from ..report import TileCount, WatchFn
from .encoder import FilmEncoder
from .plan import frame_rate, guessed_frames
from .reader import FilmReader, SeekError, input_errors
from .segment_file import Table, write_packet, write_table

REPEATING = ("matroska", "webm")  # containers of frames that may have the same time stamp


class FilmRestorer:
    """Restores segments of films; one that follows the last is read on without seeking.

    clip: what frames leave for those after them, where they are to be steady
    """

    def __init__(self, model: Model, options: Options, watch: WatchFn) -> None:
        self.model, self.options, self.watch = model, options, watch
        self.reader: FilmReader | None = None
        self.mask: Tensor | None = None
        self.clip: Clip | None = None
        self.errors: dict[str, str] = {}  # by films of which a segment failed

    def restore(self, segment: Segment) -> Outcome:
        """Of a film that cannot be restored, the first segment that fails is the last one tried."""
        outcome = Outcome(segment.name)
        if segment.source in self.errors:
            return replace(outcome, error=self.errors[segment.source])
        outcome = attempt(outcome, lambda: self._restore(segment))
        if outcome.error:
            self.errors[segment.source] = outcome.error
        return outcome

    def _restore(self, segment: Segment) -> Outcome:
        """Larger frames, at the same times. Raises InputError for what is no film."""
        began = time.perf_counter()
        count = TileCount(self.watch)
        with whole_result(Path(segment.output)) as part:
            self._read_and_write(segment, part, count)
            segment.check_unchanged(segment.film_stamp)
        return Outcome(segment.name, tiles=count.tiles, seconds=time.perf_counter() - began)

    def _read_and_write(self, segment: Segment, part: Path, count: TileCount) -> None:
        reader, self.reader = self.reader, None  # until all has gone well
        with input_errors():
            if reader is None or reader.path != segment.source:
                reader = self._open(segment)
                self.mask = read_mask(Path(segment.mask)) if segment.mask else None
            try:
                self._write(segment, part, reader, count)
            except SeekError:
                reader = self._open(segment)
                reader.seekable = False
                self._write(segment, part, reader, count)
        self.reader = reader

    def _open(self, segment: Segment) -> FilmReader:
        self.clip = Clip() if self.options.settings.steady else None
        return FilmReader(segment.source, self.options.form.deinterlaces)

    def _write(self, segment: Segment, part: Path, reader: FilmReader, count: TileCount) -> None:
        av = import_av("films")
        container = self.options.form.of_film(Path(segment.source))[1]
        # Nothing is muxed into it: by the container, the encoder is set as for the whole film.
        with av.open(io.BytesIO(), "w", format=container) as target, part.open("wb") as file:
            encoder = FilmEncoder(
                target, reader.video, reader.first, self.options, bool(reader.woven)
            )
            frames = _Frames(segment, encoder, guessed_frames(reader.source), self, count)
            if self.clip is not None and reader.reached != segment.begin:
                self.clip = frames.clip = Clip()  # what it has left is of other frames
                frames.run_in(reader, run_in_frames(self.options.settings.steady))
            frames.write(reader, file)


class _Frames:
    """The frames of one segment on their way to packets.

    pending:  read, but not yet restored
    together: how many are restored in one call; 0 until the first was seen
    done:     how many were restored
    latest:   time stamp of the last that was read
    expected: how many there may be
    """

    def __init__(
        self,
        segment: Segment,
        encoder: FilmEncoder,
        of_film: int,
        restorer: FilmRestorer,
        count: TileCount,
    ) -> None:
        """of_film: how many frames the film may have."""
        self.segment, self.encoder, self.count = segment, encoder, count
        self.model, self.mask, self.clip = restorer.model, restorer.mask, restorer.clip
        self.together = restorer.options.together
        self.pending: list[Any] = []
        self.done, self.latest = 0, segment.begin
        self.expected = of_film * segment.fraction
        self.table = Table()
        self.distinct = encoder.stream.container.format.name not in REPEATING

    def write(self, reader: FilmReader, file: BinaryIO) -> None:
        for frame in reader.span(self.segment.begin, self.segment.end):
            self._check_time(frame)
            self.pending.append(frame)
            self.together = self.together or self._that_fit(frame)
            if len(self.pending) >= self.together:
                self._restore(file)
        self._restore(file)
        self.table.header, self.table.sought = self.encoder.header, reader.sought
        if self.done:
            self._encode(file, None)
        write_table(file, self.table)

    def run_in(self, reader: FilmReader, frames: int) -> None:
        """Restores so many frames before the segment, for what they leave to it alone."""
        seconds = frames / frame_rate(reader.video)
        begin = self.segment.begin - round(seconds / reader.video.time_base)
        self.count.begin(0.0, 0.0)
        for frame in deque(reader.span(begin, self.segment.begin), maxlen=frames):
            self._restored([frame])

    def _that_fit(self, frame: Any) -> int:
        """How many frames fill the device."""
        canvas = self.model.canvas(torch.zeros(1, 3, frame.height, frame.width))
        batch = self.model.batch()
        while not batch.full and batch.take(canvas):
            pass
        return batch.count

    def _check_time(self, frame: Any) -> None:
        """Refuses before the work what the container would refuse after it."""
        if frame.pts is None:
            return
        repeated = frame.pts == self.latest and self.done + len(self.pending) > 0
        if frame.pts < self.latest or (repeated and self.distinct):
            raise InputError(
                f"a frame at time stamp {frame.pts} follows one at {self.latest}; give the film "
                "proper time stamps, for instance by converting it to another container"
            )
        self.latest = frame.pts

    def _restore(self, file: BinaryIO) -> None:
        """Those that are pending."""
        if not self.pending:
            return
        frames, self.pending = self.pending, []
        of_film = max(self.expected, self.done + len(frames)) / self.segment.fraction
        self.count.begin(self.done / of_film, len(frames) / of_film)
        for frame, result in zip(frames, self._restored(frames), strict=True):
            self._encode(file, self.encoder.frame(frame, result))
        self.done += len(frames)

    def _restored(self, frames: Sequence[Any]) -> Tensor:
        pixels = [
            torch.from_numpy(self.encoder.pixels(frame).astype(np.float32)) for frame in frames
        ]
        together = torch.stack(pixels).movedim(-1, 1) / self.encoder.limit
        before = () if self.clip is None else (self.clip,)
        return self.model.restore(together, self.mask, self.count, *before)

    def _encode(self, file: BinaryIO, frame: Any) -> None:
        for packet in self.encoder.stream.encode(frame):
            write_packet(file, self.table, packet)
