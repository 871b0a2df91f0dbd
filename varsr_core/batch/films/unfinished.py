"""Films that are not whole yet: which of their segments are missing, and what follows the last."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import InputError
from ..disk import as_bytes, portable
from ..jobs import Film, Job, Segment
from ..options import Options
from ..outcome import Outcome, attempt
from ..part_files import whole_result
from .join import join_film
from .look import RULE, Look, look_at
from .plan import SEGMENT_FRAMES, plan_film
from .segment_file import check_data, read_table

SEGMENTS = ".varsr_batch.segments"  # folder in the output folder, until all films are whole


@dataclass
class _Unfinished:
    """folder: of its segments; missing: those not there, by name; outcomes: of this run."""

    film: Film
    look: Look
    folder: Path
    segments: list[Segment]
    missing: dict[str, Segment]
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def fraction(self) -> float:
        """That is restored."""
        failed = sum(bool(outcome.error) for outcome in self.outcomes)
        return 1 - (len(self.missing) + failed) / len(self.segments)


class UnfinishedFilms:
    """All films of a run that are not whole.

    A segment's file is the note that it is done: it is there whole or not at all, in a folder that
    is named after all that it was made from.
    """

    def __init__(self, folder: Path, settings_hash: str, options: Options) -> None:
        """folder: of the results."""
        self.folder, self.settings_hash, self.options = folder / SEGMENTS, settings_hash, options
        self.by_segment: dict[str, _Unfinished] = {}  # by names of missing segments
        self.kept: set[str] = set()  # names of folders that are still needed

    @property
    def fraction(self) -> float:
        """Restored of all these films together; 1 would be one whole film."""
        films = {one.film.name: one for one in self.by_segment.values()}
        return sum(one.fraction for one in films.values())

    def begin(self, film: Film) -> list[Segment] | Outcome:
        """Segments that are missing, or the outcome of a film that needs or allows no more."""
        return attempt(Outcome(film.name), lambda: self._begin(film))

    def _begin(self, film: Film) -> list[Segment] | Outcome:
        look = look_at(film, self.options)
        folder = self.folder / self._folder_name(film, look.mended)
        segments = plan_film(film, folder)
        missing = {segment.name: segment for segment in segments if not _is_done(segment)}
        unfinished = _Unfinished(film, look, folder, segments, missing)
        self.kept.add(folder.name)
        if not missing:
            return self._end(unfinished)
        self.by_segment |= dict.fromkeys(missing, unfinished)
        return list(missing.values())

    def name_of(self, film: Film) -> str:
        """Another one for another film, and for other settings."""
        return self._folder_name(film, ())

    def has(self, film: Film) -> bool:
        """Whether segments of a film by these settings are there."""
        looks = ((), ("mended",))  # the names of their folders do not tell of what kind it is
        try:
            names = [self._folder_name(film, mended) for mended in looks]
        except (InputError, OSError):
            return False
        return any((self.folder / name).is_dir() for name in names)

    def add(self, outcome: Outcome) -> tuple[Film, Outcome | None]:
        """Takes the outcome of a segment; gives its film, and the outcome of that if it ended."""
        unfinished = self.by_segment.pop(outcome.name)
        del unfinished.missing[outcome.name]
        unfinished.outcomes.append(outcome)
        return unfinished.film, None if unfinished.missing else self._end(unfinished)

    def _end(self, unfinished: _Unfinished) -> Outcome:
        """Joins a film, unless a segment failed."""
        film, outcomes = unfinished.film, unfinished.outcomes
        outcome = next((one for one in outcomes if one.error), None)
        if outcome is None:
            stamp = unfinished.segments[0].film_stamp
            known = Outcome(film.name, stamp=stamp)
            outcome = attempt(known, lambda: self._join(film, unfinished.segments, known))
        if not outcome.error:
            self.kept.discard(unfinished.folder.name)
        return replace(
            outcome,
            name=film.name,
            notes=unfinished.look.notes,
            tiles=sum(one.tiles for one in outcomes),
            seconds=outcome.seconds + sum(one.seconds for one in outcomes),
        )

    def _join(self, film: Film, segments: Sequence[Segment], known: Outcome) -> Outcome:
        began = time.perf_counter()
        with whole_result(Path(film.output)) as part:
            join_film(segments, part, self.options)
            content_hash, size = film.content_hash(), part.stat().st_size
            film.check_unchanged(known.stamp)
        seconds = time.perf_counter() - began
        return replace(known, content_hash=content_hash, bytes=size, seconds=seconds)

    def _folder_name(self, film: Film, mended: Sequence[str]) -> str:
        """Of a film's segments: a hash of its name, and one of all that they depend on."""
        names = portable(film.source), portable(film.mask)
        made_from = [*names, film.stamp(), self.settings_hash, SEGMENT_FRAMES]
        # Segments that earlier versions made of such films are not gone on with.
        made_from += [RULE] if mended else []
        return f"{_hash(film.name)}.{_hash(json.dumps(made_from))}"

    def tidy(self, jobs: Sequence[Job]) -> None:
        """Removes segments of those films that are whole, or no longer what they were.

        jobs: of this run, to do or done; segments of other films may be wanted by another run
        """
        if not self.folder.is_dir():
            return
        known = {_hash(job.name) for job in jobs if isinstance(job, Film)}
        for path in self.folder.iterdir():
            if path.name.partition(".")[0] in known and path.name not in self.kept:
                shutil.rmtree(path, ignore_errors=True)
        for path in (*self.folder.iterdir(), self.folder):
            with suppress(OSError):  # it is not empty
                path.rmdir()


def _is_done(segment: Segment) -> bool:
    try:
        path = Path(segment.output)
        check_data(path, read_table(path))
    except InputError:
        return False
    return True


def _hash(text: str) -> str:
    return hashlib.blake2b(as_bytes(text), digest_size=8).hexdigest()
