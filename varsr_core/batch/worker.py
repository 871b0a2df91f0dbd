"""Jobs done: files read, restored, and written whole."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..tiling.canvas import Canvas
from .films.join import join_film
from .films.restorer import FilmRestorer
from .jobs import Job, Outcome, Work
from .model import Model
from .part_files import whole_result
from .pictures.reading import Picture, read_mask, read_picture
from .pictures.writing import check_writable, write_picture
from .progress_count import TileCount, WatchFn


@dataclass
class _Read:
    job: Job
    outcome: Outcome
    picture: Picture
    canvas: Canvas
    mask: Tensor | None
    seconds: float


class _Group:
    """Pictures that are restored together: as many as fill the device, unless a number is given."""

    def __init__(self, model: Model) -> None:
        self.model, self.most = model, model.work.together
        self.reads: list[_Read] = []
        self.batch = model.batch()

    def emptied(self) -> list[_Read]:
        """What it held; it takes others from now on."""
        held, self.reads = self.reads, []
        self.batch = self.model.batch()
        return held

    def take(self, read: _Read) -> bool:
        """Whether there is room for it."""
        fits = not self.full if self.most else self.batch.take(read.canvas)
        if fits:
            self.reads.append(read)
        return fits

    @property
    def full(self) -> bool:
        return len(self.reads) >= self.most if self.most else self.batch.full


class Worker:
    """Does jobs with one model, which it loads once."""

    def __init__(self, work: Work, watch: WatchFn = lambda share, tiles: None) -> None:
        self.work, self.watch = work, watch
        self.model = Model(work)
        self.films = FilmRestorer(self.model)
        self.given_up: dict[str, str] = {}  # films of which a segment failed, with the reason

    def do(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """One outcome for each job; pictures are read and restored a few at a time.

        What is wrong with a file is told in its outcome; nothing is raised for it.
        """
        group = _Group(self.model)
        for job in jobs:
            if job.film:
                yield from self._restore(group.emptied())
                yield self._segment(job)
                continue
            read = self._read(job)
            if isinstance(read, Outcome):
                yield read
                continue
            if not group.take(read):
                yield from self._restore(group.emptied())
                group.take(read)
            if group.full:
                yield from self._restore(group.emptied())
        yield from self._restore(group.emptied())

    def _read(self, job: Job) -> _Read | Outcome:
        began = time.perf_counter()
        outcome = Outcome(job.name)
        try:
            outcome = replace(outcome, stamp=job.stamp())
            outcome = replace(outcome, content_hash=job.content_hash())
            picture = read_picture(Path(job.source), self.work.size)
            canvas = self.model.canvas(picture.pixels)
            channels, sides = picture.pixels.shape[1], (canvas.height, canvas.width)
            check_writable(self.work.form, Path(job.output).suffix, channels, sides)
            mask = read_mask(Path(job.mask)) if job.mask else None
        except Exception as error:
            return _failed(outcome, error)
        return _Read(job, outcome, picture, canvas, mask, time.perf_counter() - began)

    def _restore(self, group: list[_Read]) -> Iterator[Outcome]:
        if not group:
            return
        began = time.perf_counter()
        count = TileCount(self.watch)
        count.begin(0.0, len(group))
        try:
            masks = None if group[0].mask is None else [read.mask[0] for read in group]
            images = [read.picture.pixels[0] for read in group]
            results = self.model.restore_each(images, masks, count)
        except Exception as error:
            if len(group) > 1:  # one of them is to blame, the others need not suffer
                for read in group:
                    yield from self._restore([read])
            else:
                yield _failed(group[0].outcome, error)
            return
        per_tile = (time.perf_counter() - began) / sum(read.canvas.tiles for read in group)
        for read, result in zip(group, results, strict=True):
            yield self._write(read, result, per_tile * read.canvas.tiles)

    def _write(self, read: _Read, result: Tensor, seconds: float) -> Outcome:
        began = time.perf_counter()
        path = Path(read.job.output)
        try:
            with whole_result(path) as part:
                write_picture(result, read.picture, part, path.suffix, self.work.form)
                size = part.stat().st_size
        except Exception as error:
            return _failed(read.outcome, error)
        seconds += read.seconds + time.perf_counter() - began
        return replace(read.outcome, bytes=size, tiles=read.canvas.tiles, seconds=seconds)

    def _segment(self, job: Job) -> Outcome:
        """Of a film that cannot be restored, the first segment that fails is the last one tried."""
        began = time.perf_counter()
        outcome = Outcome(job.name)
        if job.source in self.given_up:
            return replace(outcome, error=self.given_up[job.source])
        count = TileCount(self.watch)
        try:
            with whole_result(Path(job.output)) as part:
                self.films.restore(job, part, count)
                if job.stamp() != job.made_from:
                    raise InputError("it was changed meanwhile; run the same command again")
        except Exception as error:
            failed = _failed(outcome, error)
            self.given_up[job.source] = failed.error
            return failed
        seconds = time.perf_counter() - began
        return replace(outcome, tiles=count.tiles, seconds=seconds)


def joined(film: Job, segments: Sequence[Job], work: Work) -> Outcome:
    """A film of whose segments all are there."""
    began = time.perf_counter()
    outcome = Outcome(film.name, stamp=segments[0].made_from)
    try:
        with whole_result(Path(film.output)) as part:
            join_film(segments, part, work)
            outcome = replace(outcome, content_hash=film.content_hash(), bytes=part.stat().st_size)
            if film.stamp() != outcome.stamp:
                raise InputError("it was changed meanwhile; run the same command again")
    except Exception as error:
        return _failed(outcome, error)
    return replace(outcome, seconds=time.perf_counter() - began)


def _failed(outcome: Outcome, error: Exception) -> Outcome:
    """What the user is told; a bug is told by its name, and ends no run."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"the disk is full ({error}); make room, and run the same command again"
        return replace(outcome, error=text, fatal=True)
    if isinstance(error, InputError):
        return replace(outcome, error=str(error))
    return replace(outcome, error=f"{type(error).__name__}: {error}")
