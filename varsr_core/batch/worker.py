"""Jobs done: files read, restored, and written whole."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from .film_join import join_film
from .films import FilmRestorer
from .jobs import Job, Outcome, Work
from .model import Model
from .part_files import whole_result
from .progress_count import TileCount, WatchFn
from .reading import Picture, read_mask, read_picture
from .writing import check_writable, write_picture


@dataclass
class _Read:
    job: Job
    outcome: Outcome
    picture: Picture
    mask: Tensor | None
    seconds: float

    @property
    def kind(self) -> tuple[tuple[int, ...], bool]:
        """Pictures of one kind can be restored in one call."""
        return tuple(self.picture.pixels.shape), self.mask is None


class Worker:
    """Does jobs with one model, which it loads once."""

    def __init__(self, work: Work, watch: WatchFn = lambda share, tiles: None) -> None:
        self.work, self.watch = work, watch
        self.model = Model(work)
        self.films = FilmRestorer(self.model)
        self.given_up: dict[str, str] = {}  # films of which a segment failed, with the reason

    def do(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """One outcome for each job; pictures of equal size are restored together.

        What is wrong with a file is told in its outcome; nothing is raised for it.
        """
        pictures: list[_Read] = []
        for job in jobs:
            if job.film:
                yield self._segment(job)
                continue
            read = self._read(job)
            if isinstance(read, Outcome):
                yield read
            else:
                pictures.append(read)
        while pictures:
            group = [read for read in pictures if read.kind == pictures[0].kind]
            pictures = [read for read in pictures if read.kind != group[0].kind]
            yield from self._restore(group)

    def _read(self, job: Job) -> _Read | Outcome:
        began = time.perf_counter()
        outcome = Outcome(job.name)
        try:
            outcome = replace(outcome, stamp=job.stamp())
            outcome = replace(outcome, content_hash=job.content_hash())
            picture = read_picture(Path(job.source), self.work.size)
            channels, height, width = picture.pixels.shape[1:]
            sides = self.work.size.of(height, width)
            check_writable(self.work.form, Path(job.output).suffix, channels, sides)
            mask = read_mask(Path(job.mask)) if job.mask else None
        except Exception as error:
            return _failed(outcome, error)
        return _Read(job, outcome, picture, mask, time.perf_counter() - began)

    def _restore(self, group: list[_Read]) -> Iterator[Outcome]:
        began = time.perf_counter()
        count = TileCount(self.watch)
        try:
            pixels = torch.cat([read.picture.pixels for read in group])
            results = self.model.restore(pixels, _masks(group), count)
        except Exception as error:
            if len(group) > 1:  # one of them is to blame, the others need not suffer
                for read in group:
                    yield from self._restore([read])
            else:
                yield _failed(group[0].outcome, error)
            return
        seconds = (time.perf_counter() - began) / len(group)
        for read, result in zip(group, results, strict=True):
            yield self._write(read, result, count.tiles // len(group), seconds)

    def _write(self, read: _Read, result: Tensor, tiles: int, seconds: float) -> Outcome:
        began = time.perf_counter()
        path = Path(read.job.output)
        try:
            with whole_result(path) as part:
                write_picture(result, read.picture, part, path.suffix, self.work.form)
                size = part.stat().st_size
        except Exception as error:
            return _failed(read.outcome, error)
        seconds += read.seconds + time.perf_counter() - began
        return replace(read.outcome, bytes=size, tiles=tiles, seconds=seconds)

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


def _masks(group: list[_Read]) -> Tensor | None:
    masks = [read.mask for read in group]
    if masks[0] is None:
        return None
    if len({mask.shape for mask in masks}) > 1:
        raise InputError("masks of different sizes")  # restored one by one then
    return torch.cat(masks)


def _failed(outcome: Outcome, error: Exception) -> Outcome:
    """What the user is told; a bug is told by its name, and ends no run."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"the disk is full ({error}); make room, and run the same command again"
        return replace(outcome, error=text, fatal=True)
    if isinstance(error, InputError):
        return replace(outcome, error=str(error))
    return replace(outcome, error=f"{type(error).__name__}: {error}")
