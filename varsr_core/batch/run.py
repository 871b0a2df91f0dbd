"""One run of the command: finds what is to be done, has it done, and keeps the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..errors import InputError
from .films.in_hand import FilmsInHand
from .inputs import Naming, find_jobs
from .jobs import Job, Outcome, Work
from .journal import Journal
from .model import read_model
from .part_files import remove_parts
from .progress_count import WatchFn
from .report import Report
from .worker import Worker

Pool = Callable[[Work, Sequence[Job], WatchFn], Iterator[Outcome]]
"""Does jobs in any order; yields an outcome for each."""


@dataclass(frozen=True)
class Result:
    """How a run ended: numbers of files."""

    restored: int
    skipped: int
    failed: int


def one_by_one(work: Work, jobs: Sequence[Job], watch: WatchFn) -> Iterator[Outcome]:
    """The pool of one worker, in this process."""
    yield from Worker(work, watch).do(jobs)


def run_batch(
    inputs: Sequence[str], naming: Naming, work: Work, pool: Pool, report: Report
) -> Result:
    """Restores what earlier runs did not. Raises InputError or CheckpointError before the work,
    and InputError when it cannot go on, as on a full disk; the same call then does the rest."""
    settings = work.settings_hash(read_model(work).fingerprint)
    if naming.mask is not None and not naming.mask.exists():
        raise InputError(f"mask: there is no file or folder {naming.mask}")
    journal = Journal(naming.folder)
    films = FilmsInHand(naming.folder, settings, work)
    jobs: list[Job] = []
    try:
        remove_parts(naming.folder)
        known = {naming.folder / name for name in journal.results()}
        jobs, problems = find_jobs(inputs, naming, known)
        todo = [job for job in jobs if not journal.is_done(job, settings)]
        skipped = len(jobs) - len(todo)
        report.start(len(todo) + len(problems), skipped)
        try:
            for problem in problems:
                report.file(Job(problem.name, problem.name, ""), problem)
            run = _Run(settings, films, journal, report)
            run.work_off(work, todo, pool)
        finally:
            report.end()
    except sqlite3.Error as error:
        raise InputError(
            f"the journal in {naming.folder} cannot be written ({error}); make room on the disk, "
            "and run the same command again"
        ) from None
    finally:
        remove_parts(naming.folder)  # of workers that died
        films.tidy(jobs)
        journal.close()
    return Result(len(todo) - run.failed, skipped, len(problems) + run.failed)


class _Run:
    """failed: how many files"""

    def __init__(self, settings: str, films: FilmsInHand, journal: Journal, report: Report) -> None:
        self.settings, self.films = settings, films
        self.journal, self.report = journal, report
        self.failed = 0

    def work_off(self, work: Work, jobs: Sequence[Job], pool: Pool) -> None:
        by_name = {job.name: job for job in jobs}
        pieces: list[Job] = []
        for job in jobs:
            missing = self.films.begin(job) if job.film else [job]
            if isinstance(missing, Outcome):
                self._note(job, missing)
            else:
                pieces += missing
        self.films.tidy(jobs)
        self.report.films(self.films.share, 0)  # by earlier runs
        if not pieces:
            return
        for outcome in pool(work, pieces, self.report.working):
            if outcome.name in by_name:
                self._note(by_name[outcome.name], outcome)
                continue
            film, ended = self.films.add(outcome)
            self.report.films(self.films.share, outcome.tiles)
            if outcome.fatal or ended:
                self._note(film, ended or replace(outcome, name=film.name))
            else:
                self.report.working(0.0, 0.0)

    def _note(self, job: Job, outcome: Outcome) -> None:
        self.journal.record(job, self.settings, outcome)
        self.report.file(job, outcome)
        self.failed += bool(outcome.error)
        if outcome.fatal:
            raise InputError(outcome.error)
