"""Films, segment by segment: in memory are never more than a few frames, however long one is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ..jobs import Job
from ..model import Model
from ..optional import import_av
from ..output_format import CONTAINERS
from ..pictures.reading import read_mask
from ..progress_count import TileCount
from .encoder import FilmEncoder
from .plan import guessed_frames
from .reader import FilmReader, SeekError, told_plainly
from .segment_file import Table, write_packet, write_table

REPEATING = ("matroska", "webm")  # containers of frames that may have the same time stamp


class FilmRestorer:
    """Restores segments of films; one that follows the last is read on without seeking."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.reader: FilmReader | None = None
        self.mask: Tensor | None = None

    def restore(self, job: Job, part: Path, count: TileCount) -> None:
        """Writes the segment that a job is to `part`: larger frames, at the same times.

        Raises InputError for what is no film.
        """
        reader, self.reader = self.reader, None  # until all has gone well
        with told_plainly():
            if reader is None or reader.path != job.source:
                reader = FilmReader(job.source)
                self.mask = read_mask(Path(job.mask)) if job.mask else None
            try:
                self._write(job, part, reader, count)
            except SeekError:
                reader = FilmReader(job.source)
                reader.seekable = False
                self._write(job, part, reader, count)
        self.reader = reader

    def _write(self, job: Job, part: Path, reader: FilmReader, count: TileCount) -> None:
        av = import_av("films")
        container = CONTAINERS[Path(job.source).suffix.lower()][1]
        # Written is nothing to this container: it makes the encoder the one of the whole film.
        with av.open(io.BytesIO(), "w", format=container) as target, part.open("wb") as file:
            encoder = FilmEncoder(target, reader.video, reader.first, self.model.work)
            _Segment(job, reader, encoder, self.model, self.mask, count).write(file)


class _Segment:
    """One segment on its way from frames to packets."""

    def __init__(
        self,
        job: Job,
        reader: FilmReader,
        encoder: FilmEncoder,
        model: Model,
        mask: Tensor | None,
        count: TileCount,
    ) -> None:
        self.job, self.reader, self.encoder = job, reader, encoder
        self.model, self.mask, self.count = model, mask, count
        self.hand: list[Any] = []  # frames not yet restored
        self.at_once = 0  # how many are restored together, once a frame is known
        self.seen, self.latest = 0, job.begin
        self.length = guessed_frames(reader.source) * job.share
        self.table = Table()
        self.distinct = encoder.stream.container.format.name not in REPEATING

    def write(self, file: BinaryIO) -> None:
        for frame in self.reader.span(self.job.begin, self.job.end):
            self._check_time(frame)
            self.hand.append(frame)
            self.at_once = self.at_once or self._fill(frame)
            if len(self.hand) >= self.at_once:
                self._restore(file)
        self._restore(file)
        self.table.header, self.table.sought = self.encoder.header, self.reader.sought
        if self.seen:
            self._encode(file, None)
        write_table(file, self.table)

    def _fill(self, frame: Any) -> int:
        """How many frames fill the device, unless a number is given."""
        if self.model.work.together:
            return self.model.work.together
        canvas = self.model.canvas(torch.zeros(1, 3, frame.height, frame.width))
        batch = self.model.batch()
        while not batch.full and batch.take(canvas):
            pass
        return batch.count

    def _check_time(self, frame: Any) -> None:
        """Refuses before the work what the container would refuse after it."""
        if frame.pts is None:
            return
        repeated = frame.pts == self.latest and self.seen + len(self.hand) > 0
        if frame.pts < self.latest or (repeated and self.distinct):
            raise InputError(
                f"a frame at time stamp {frame.pts} follows one at {self.latest}; give the film "
                "proper time stamps, for instance by converting it to another container"
            )
        self.latest = frame.pts

    def _restore(self, file: BinaryIO) -> None:
        """The frames at hand."""
        if not self.hand:
            return
        frames, self.hand = self.hand, []
        pixels = [
            torch.from_numpy(self.encoder.pixels(frame).astype(np.float32)) for frame in frames
        ]
        whole = max(self.length, self.seen + len(frames)) / self.job.share
        self.count.begin(self.seen / whole, len(frames) / whole)
        results = self.model.restore(
            torch.stack(pixels).movedim(-1, 1) / self.encoder.limit, self.mask, self.count
        )
        for frame, result in zip(frames, results, strict=True):
            self._encode(file, self.encoder.frame(frame, result))
        self.seen += len(frames)

    def _encode(self, file: BinaryIO, frame: Any) -> None:
        for packet in self.encoder.stream.encode(frame):
            write_packet(file, self.table, packet)
