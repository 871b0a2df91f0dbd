"""One run of the command: finds what is to be done, has it done, and keeps the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from ..errors import InputError
from ..family import Checkpoint, Family
from ..runtime.threads import use_threads
from .films.look import look_at
from .films.unfinished import UnfinishedFilms
from .inputs import find_jobs
from .jobs import Film, Job, Picture, Task
from .journal import Journal
from .model import read_model
from .naming import Naming
from .options import Options
from .outcome import Outcome, attempt, failed
from .part_files import remove_parts
from .pictures.mended import doubt_of
from .report import Report, WatchFn
from .results import without_foreign
from .settling import settled
from .worker import Worker

Pool = Callable[[Options, Sequence[Task], WatchFn, list[Checkpoint[Family]]], Iterator[Outcome]]
"""Does tasks in any order; yields an outcome for each. The list holds the model as this process has
read it, and is emptied."""


@dataclass(frozen=True)
class Result:
    """How a run ended: numbers of files."""

    restored: int
    skipped: int
    failed: int


def one_by_one(
    options: Options, tasks: Sequence[Task], watch: WatchFn, read: list[Checkpoint[Family]]
) -> Iterator[Outcome]:
    """The pool of one worker, in this process."""
    yield from Worker(options, watch, read).do(tasks)


def run_batch(
    inputs: Sequence[str],
    naming: Naming,
    options: Options,
    pool: Pool,
    report: Report,
    overwrite: bool = False,
) -> Result:
    """Restores what earlier runs did not. Raises InputError or CheckpointError before the work,
    and InputError when it cannot go on, as on a full disk; the same call then does the rest.

    overwrite: files in the places of results that are no results of earlier runs
    """
    use_threads(options.threads)
    read = [read_model(options)]
    if naming.mask is not None and not naming.mask.exists():
        raise InputError(f"mask: there is no file or folder {naming.mask}")
    journal = Journal(naming.folder)
    jobs: list[Picture | Film] = []
    todo: list[Picture | Film] = []
    films: UnfinishedFilms | None = None
    try:
        remove_parts(naming.folder)
        own = journal.own()
        known = {naming.folder / name for name in own}
        jobs, refused = find_jobs(inputs, naming, known, report.others)
        options, settings_hash = settled(options, read[0], journal, naming.folder, jobs)
        films = UnfinishedFilms(naming.folder, settings_hash, options)
        todo = [job for job in jobs if not journal.is_done(job, settings_hash)]
        skipped = len(jobs) - len(todo)
        if not overwrite:
            todo, foreign = without_foreign(todo, own, journal.new)
            refused += foreign
        journal.begin(todo)
        report.start(len(todo) + len(refused), skipped)
        run = _Run(settings_hash, films, journal, report)
        try:
            _name_doubtful(journal, options, report)
            for job, error in refused:
                report.file(job, failed(Outcome(job.name), error))
            run.restore(options, todo, pool, read)
        finally:
            report.end()
    except sqlite3.Error as error:
        raise journal.error(error) from None
    finally:
        remove_parts(naming.folder)  # of workers that died
        if films is not None:
            films.tidy(jobs)
        with suppress(sqlite3.Error):  # then a later run takes some more files for its own
            journal.end(todo)
        journal.close()
    return Result(len(todo) - run.failed, skipped, len(refused) + run.failed)


def _name_doubtful(journal: Journal, options: Options, report: Report) -> None:
    """Results of earlier versions that may be wrong are told of in every run, and left as they are;
    what they were made from is looked into once."""
    for job in journal.unmarked:
        doubt = attempt(Outcome(job.name), partial(_doubt_of, job, options))
        if not isinstance(doubt, Outcome):  # it can still be looked at
            journal.mark(job, doubt)
    report.doubtful(journal.doubtful)


def _doubt_of(job: Picture | Film, options: Options) -> str:
    return ", ".join(look_at(job, options).mended) if isinstance(job, Film) else doubt_of(job)


class _Run:
    """failed: how many files"""

    def __init__(
        self, settings_hash: str, films: UnfinishedFilms, journal: Journal, report: Report
    ) -> None:
        self.settings_hash, self.films = settings_hash, films
        self.journal, self.report = journal, report
        self.failed = 0

    def restore(
        self,
        options: Options,
        jobs: Sequence[Picture | Film],
        pool: Pool,
        read: list[Checkpoint[Family]],
    ) -> None:
        by_name = {job.name: job for job in jobs}
        tasks: list[Task] = []
        for job in jobs:
            missing = self.films.begin(job) if isinstance(job, Film) else [job]
            if isinstance(missing, Outcome):
                self._note(job, missing)
            else:
                tasks += missing
        self.films.tidy(jobs)
        self.report.films(self.films.fraction, 0)  # by earlier runs
        if not tasks:
            return
        for outcome in pool(options, tasks, self.report.working, read):
            if outcome.name in by_name:
                self._note(by_name[outcome.name], outcome)
                continue
            film, ended = self.films.add(outcome)
            self.report.films(self.films.fraction, outcome.tiles)
            if outcome.fatal or ended:
                self._note(film, ended or replace(outcome, name=film.name))
            else:
                self.report.working(0.0, 0.0)

    def _note(self, job: Job, outcome: Outcome) -> None:
        self.journal.record(job, self.settings_hash, outcome)
        self.report.file(job, outcome)
        self.failed += bool(outcome.error)
        if outcome.fatal:
            raise InputError(outcome.error)
