"""The films of a run: which segments are missing, and when a film is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import InputError
from ..jobs import Job, Outcome, Work
from ..worker import joined
from .plan import SEGMENT_FRAMES, plan_film
from .segment_file import read_table

FOLDER = ".varsr_batch.segments"  # in the output folder, until a film is whole


@dataclass
class _Film:
    job: Job
    folder: Path
    segments: list[Job]
    missing: dict[str, Job]
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def share(self) -> float:
        """That is restored."""
        failed = sum(bool(outcome.error) for outcome in self.outcomes)
        return 1 - (len(self.missing) + failed) / len(self.segments)


class FilmsInHand:
    """Films that are not whole yet.

    A segment's file is the note that it is done: it is there whole or not at all, in a folder that
    is named after all that it was made from.
    """

    def __init__(self, folder: Path, settings: str, work: Work) -> None:
        """folder: of the results; settings: hash of all that results depend on but the inputs."""
        self.folder, self.settings, self.work = folder / FOLDER, settings, work
        self.films: dict[str, _Film] = {}  # by the names of their missing segments
        self.kept: set[str] = set()  # folders of films that are not whole

    @property
    def share(self) -> float:
        """Restored of all films together that are not whole."""
        films = {film.job.name: film for film in self.films.values()}
        return sum(film.share for film in films.values())

    def begin(self, job: Job) -> list[Job] | Outcome:
        """Segments that are missing, or the outcome of a film that needs or allows no more."""
        try:
            folder = self.folder / self._name(job)
            segments = plan_film(job, folder)
        except (InputError, OSError) as error:
            return Outcome(job.name, error=str(error))
        missing = {one.name: one for one in segments if not _is_done(one)}
        film = _Film(job, folder, segments, missing)
        self.kept.add(folder.name)
        if not missing:
            return self._end(film)
        self.films |= dict.fromkeys(missing, film)
        return list(missing.values())

    def add(self, outcome: Outcome) -> tuple[Job, Outcome | None]:
        """Takes what became of a segment; gives its film, and what became of that if it ended."""
        film = self.films.pop(outcome.name)
        del film.missing[outcome.name]
        film.outcomes.append(outcome)
        return film.job, None if film.missing else self._end(film)

    def _end(self, film: _Film) -> Outcome:
        """Joins it, if all went well."""
        result = next((outcome for outcome in film.outcomes if outcome.error), None)
        result = result or joined(film.job, film.segments, self.work)
        if not result.error:
            self.kept.discard(film.folder.name)
        return replace(
            result,
            name=film.job.name,
            tiles=sum(outcome.tiles for outcome in film.outcomes),
            seconds=result.seconds + sum(outcome.seconds for outcome in film.outcomes),
        )

    def _name(self, job: Job) -> str:
        """Of the folder of a film's segments: of the film, and of all that they depend on."""
        made_from = json.dumps([job.source, job.mask, job.stamp(), self.settings, SEGMENT_FRAMES])
        return f"{_hash(job.name)}.{_hash(made_from)}"

    def tidy(self, jobs: Sequence[Job]) -> None:
        """Removes segments of those films that are whole, or no longer what they were.

        jobs: of this run, to do or done; segments of other films may be wanted by another run
        """
        if not self.folder.is_dir():
            return
        known = {_hash(job.name) for job in jobs if job.film}
        for path in self.folder.iterdir():
            if path.name.partition(".")[0] in known and path.name not in self.kept:
                shutil.rmtree(path, ignore_errors=True)
        for path in (*self.folder.iterdir(), self.folder):
            with suppress(OSError):  # it is not empty
                path.rmdir()


def _is_done(segment: Job) -> bool:
    try:
        read_table(Path(segment.output))
    except InputError:
        return False
    return True


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
