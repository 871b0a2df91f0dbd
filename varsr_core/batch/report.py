"""What the user sees while a batch runs: a bar and a line for each failure, or lines of JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..runtime.progress import Progress
from .disk import portable, printable
from .inputs import counted
from .jobs import Film, Job
from .outcome import Outcome
from .streams import telling

logger = logging.getLogger(__name__)

PAUSE_S = 1.0  # between two lines of progress
MOST_DOUBTS = 10  # that are named to a person
BAR = "{percentage:3.0f}% |{bar}| {desc}{elapsed}<{remaining}{postfix}"

WatchFn = Callable[[float, float], None]
"""Told how many of the files under way are finished, with fractions, and how many tiles were done
since it was last told."""


class TileCount:
    """A ProgressFn for one or several calls of `upscale()` on one file, or one call on several.

    tiles: that were finished
    """

    def __init__(self, watch: WatchFn) -> None:
        self.watch = watch
        self.tiles = 0
        self.begin(0.0, 1.0)

    def begin(self, start: float, length: float) -> None:
        """The next call takes the files that are finished from `start` to `start + length`."""
        self.start, self.length, self.before = start, length, 0.0

    def __call__(self, progress: Progress) -> None:
        fraction = progress.done / max(progress.total, 1)
        done = fraction * progress.tiles
        self.watch(self.start + fraction * self.length, done - self.before)
        self.before = done
        if progress.done >= progress.total:
            self.tiles += progress.tiles


class Report(ABC):
    """Told of everything that happens in a run; counts it, and says it in a way of its own.

    todo, files, failed: files to restore, finished well or not, and those that failed
    skipped:  files that earlier runs restored
    tiles:    that this run restored
    under_way: how many files the worker has finished of those it has not told of, with fractions
    of_films: the same of films that are not whole, without the segment under way
    others:   suffixes of files of other kinds, which are left out
    """

    def __init__(self, remote: bool) -> None:
        """remote: whether tiles are told only when a file, or a segment, is finished."""
        self.remote = remote
        self.began = time.monotonic()
        self.others: Counter[str] = Counter()
        self.todo = self.files = self.failed = self.skipped = 0
        self.tiles = self.under_way = self.of_films = 0.0
        self.resumed: float | None = None  # `of_films` at the start, by earlier runs

    def start(self, todo: int, done: int) -> None:
        """todo: files to restore; done: that earlier runs restored."""
        self.todo, self.skipped = todo, done
        self.began = time.monotonic()
        self.say_start()

    def working(self, finished: float, tiles: float) -> None:
        """See WatchFn."""
        self.under_way = finished
        self.tiles += tiles
        self.say_progress()

    def films(self, finished: float, tiles: int) -> None:
        """finished: of all films that are not whole; tiles: of the segment just restored.

        Shown with what is told next.
        """
        if self.resumed is None:
            self.resumed = finished
        self.of_films, self.under_way = finished, 0.0
        self.tiles += tiles if self.remote else 0

    def file(self, job: Job, outcome: Outcome) -> None:
        """One file is finished, well or not."""
        self.files, self.under_way = self.files + 1, max(self.under_way - 1, 0.0)
        self.failed += bool(outcome.error)
        counted = isinstance(job, Film) or not self.remote
        self.tiles += 0 if counted else outcome.tiles
        self.say_file(job, outcome)
        self.say_progress()

    @abstractmethod
    def doubtful(self, found: Sequence[tuple[Job, str]]) -> None:
        """Results of earlier versions that may be wrong, and what their inputs are."""

    @abstractmethod
    def end(self) -> None:
        """The run is over, for whatever reason."""

    @abstractmethod
    def say_start(self) -> None: ...

    @abstractmethod
    def say_progress(self) -> None: ...

    @abstractmethod
    def say_file(self, job: Job, outcome: Outcome) -> None: ...

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def speed(self) -> float:
        """Tiles per second."""
        return self.tiles / max(self.seconds, 1e-9)

    @property
    def finished(self) -> float:
        """Files, with fractions of those under way."""
        return self.files + self.of_films + self.under_way

    @property
    def left(self) -> float | None:
        """Seconds, by the speed so far."""
        done = self.finished - (self.resumed or 0.0)
        return self.seconds * (self.todo - self.finished) / done if done > 0 else None


class BarReport(Report):
    """For people: a bar, and what went wrong as it happens."""

    def say_start(self) -> None:
        if self.others:
            logger.info("Left out: %s", counted(self.others))
        if self.skipped:
            logger.info("%d files are done already", self.skipped)
        self.bar = tqdm(total=self.todo, disable=True)
        with telling(sys.stderr):
            self.bar = tqdm(total=self.todo, bar_format=BAR)
        self.redirect = logging_redirect_tqdm()
        self.redirect.__enter__()
        self.say_progress()

    def say_file(self, job: Job, outcome: Outcome) -> None:
        if outcome.error:
            logger.error("%s: %s", printable(job.source), printable(outcome.error))
        elif outcome.notes:
            logger.info("%s: %s", printable(job.source), printable("; ".join(outcome.notes)))

    def doubtful(self, found: Sequence[tuple[Job, str]]) -> None:
        for job, kind in found[:MOST_DOUBTS]:
            logger.warning(
                "%s may be wrong: the input is %s, which earlier versions did not know; delete "
                "the result to have it made again",
                printable(job.output),
                kind,
            )
        if len(found) > MOST_DOUBTS:
            more = len(found) - MOST_DOUBTS
            logger.warning("... and %d more, all of which --json tells", more)

    def say_progress(self) -> None:
        self.bar.set_description_str(f"{self.files} of {self.todo} files, ", refresh=False)
        shown = f"{self.tiles:.0f} tiles, {self.speed:.2f} tiles/s"
        self.bar.set_postfix_str(shown, refresh=False)
        with telling(sys.stderr):
            self.bar.update(self.finished - self.bar.n)

    def end(self) -> None:
        self.redirect.__exit__(None, None, None)
        with telling(sys.stderr):
            self.bar.close()
        logger.info(
            "%d files restored, %d done before, %d failed; %.0f tiles in %.1f s",
            self.files - self.failed,
            self.skipped,
            self.failed,
            self.tiles,
            self.seconds,
        )


class JSONReport(Report):
    """For programs: one JSON object a line on the standard output."""

    def __init__(self, remote: bool) -> None:
        super().__init__(remote)
        self.next = 0.0  # time of the next line of progress, at the earliest
        self.stream = sys.stdout  # this one, wherever other packages are made to print

    def say_start(self) -> None:
        self._say("start", files=self.todo, skipped=self.skipped)

    def say_file(self, job: Job, outcome: Outcome) -> None:
        self._say(
            "file",
            source=portable(job.source),
            output=portable(job.output),
            error=portable(outcome.error) or None,
            notes=[portable(note) for note in outcome.notes],
            input_hash=outcome.content_hash or None,
            tiles=outcome.tiles,
            seconds=round(outcome.seconds, 3),
        )

    def doubtful(self, found: Sequence[tuple[Job, str]]) -> None:
        for job, kind in found:
            source, output = portable(job.source), portable(job.output)
            self._say("doubtful", source=source, output=output, kind=kind)

    def say_progress(self) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + PAUSE_S
        self._say(
            "progress",
            files=round(self.finished, 3),
            of=self.todo,
            tiles=round(self.tiles, 1),
            tiles_per_s=round(self.speed, 3),
            seconds_left=None if self.left is None else round(self.left, 1),
        )

    def end(self) -> None:
        self._say(
            "end",
            restored=self.files - self.failed,
            skipped=self.skipped,
            failed=self.failed,
            tiles=round(self.tiles),
            seconds=round(self.seconds, 3),
            other_kinds=self.others.total(),
        )

    def _say(self, event: str, **values: object) -> None:
        with telling(self.stream):
            self.stream.write(json.dumps({"event": event, **values}) + "\n")
            self.stream.flush()
