"""What the user sees while a batch runs: a bar and a line for each failure, or lines of JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Protocol

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .jobs import Job, Outcome

logger = logging.getLogger(__name__)

PAUSE_S = 1.0  # between two lines of progress
BAR = "{percentage:3.0f}% |{bar}| {desc}{elapsed}<{remaining}{postfix}"


class Report(Protocol):
    """Told of everything that happens in a run."""

    def start(self, todo: int, done: int) -> None:
        """todo: files to restore; done: that earlier runs restored."""

    def working(self, share: float, tiles: float) -> None:
        """See WatchFn."""

    def films(self, share: float, tiles: int) -> None:
        """share: restored of all films that are not whole; tiles: of the segment just restored.

        Shown with what is told next.
        """

    def file(self, job: Job, outcome: Outcome) -> None:
        """One file is finished, well or not."""

    def end(self) -> None:
        """The run is over, for whatever reason."""


class Counter:
    """How far a run is: files, tiles, speed, and the time that is left by the speed so far."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.todo = self.files = self.failed = self.skipped = 0
        self.tiles = self.share = self.film_share = 0.0
        self.resumed: float | None = None  # what earlier runs restored of films

    def start(self, todo: int, done: int) -> None:
        self.todo, self.skipped = todo, done
        self.began = time.monotonic()

    def working(self, share: float, tiles: float) -> None:
        self.share = share
        self.tiles += tiles

    def films(self, share: float, tiles: int) -> None:
        """tiles: 0 where `working` was told of them."""
        if self.resumed is None:
            self.resumed = share
        self.film_share, self.share = share, 0.0
        self.tiles += tiles

    def file(self, outcome: Outcome, counted: bool) -> None:
        """counted: whether `working` was told of its tiles."""
        self.files, self.share = self.files + 1, max(self.share - 1, 0.0)
        self.failed += bool(outcome.error)
        self.tiles += 0 if counted else outcome.tiles

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def speed(self) -> float:
        """Tiles per second."""
        return self.tiles / max(self.seconds, 1e-9)

    @property
    def finished(self) -> float:
        """Files, with what is finished of those in hand."""
        return self.files + self.film_share + self.share

    @property
    def left(self) -> float | None:
        """Seconds."""
        done = self.finished - (self.resumed or 0.0)
        return self.seconds * (self.todo - self.finished) / done if done > 0 else None


class BarReport:
    """For people: a bar, and what went wrong as it happens."""

    def __init__(self, remote: bool) -> None:
        """remote: whether tiles are told only when a file is finished."""
        self.counter, self.remote = Counter(), remote

    def start(self, todo: int, done: int) -> None:
        self.counter.start(todo, done)
        if done:
            logger.info("%d files are done already", done)
        self.redirect = logging_redirect_tqdm()
        self.redirect.__enter__()
        self.bar = tqdm(total=todo, bar_format=BAR)
        self._show()

    def working(self, share: float, tiles: float) -> None:
        self.counter.working(share, tiles)
        self._show()

    def films(self, share: float, tiles: int) -> None:
        self.counter.films(share, tiles if self.remote else 0)

    def file(self, job: Job, outcome: Outcome) -> None:
        self.counter.file(outcome, job.film or not self.remote)
        if outcome.error:
            logger.error("%s: %s", job.source, outcome.error)
        self._show()

    def _show(self) -> None:
        counter = self.counter
        self.bar.set_description_str(f"{counter.files} of {counter.todo} files, ", refresh=False)
        shown = f"{counter.tiles:.0f} tiles, {counter.speed:.2f} tiles/s"
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(counter.finished - self.bar.n)

    def end(self) -> None:
        self.bar.close()
        self.redirect.__exit__(None, None, None)
        good = self.counter.files - self.counter.failed
        logger.info(
            "%d files restored, %d done before, %d failed; %.0f tiles in %.1f s",
            good,
            self.counter.skipped,
            self.counter.failed,
            self.counter.tiles,
            self.counter.seconds,
        )


class JSONReport:
    """For programs: one JSON object a line on the standard output."""

    def __init__(self, remote: bool) -> None:
        self.counter, self.remote = Counter(), remote
        self.next = 0.0
        self.stream = sys.stdout  # this one, wherever other packages are made to print

    def start(self, todo: int, done: int) -> None:
        self.counter.start(todo, done)
        self._say("start", files=todo, skipped=done)

    def working(self, share: float, tiles: float) -> None:
        self.counter.working(share, tiles)
        self._progress()

    def films(self, share: float, tiles: int) -> None:
        self.counter.films(share, tiles if self.remote else 0)

    def file(self, job: Job, outcome: Outcome) -> None:
        self.counter.file(outcome, job.film or not self.remote)
        self._say(
            "file",
            source=job.source,
            output=job.output,
            error=outcome.error or None,
            input_hash=outcome.content_hash or None,
            tiles=outcome.tiles,
            seconds=round(outcome.seconds, 3),
        )
        self._progress()

    def _progress(self) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + PAUSE_S
        counter = self.counter
        self._say(
            "progress",
            files=round(counter.finished, 3),
            of=counter.todo,
            tiles=round(counter.tiles, 1),
            tiles_per_s=round(counter.speed, 3),
            seconds_left=None if counter.left is None else round(counter.left, 1),
        )

    def end(self) -> None:
        counter = self.counter
        self._say(
            "end",
            restored=counter.files - counter.failed,
            skipped=counter.skipped,
            failed=counter.failed,
            tiles=round(counter.tiles),
            seconds=round(counter.seconds, 3),
        )

    def _say(self, event: str, **values: object) -> None:
        self.stream.write(json.dumps({"event": event, **values}) + "\n")
        self.stream.flush()
