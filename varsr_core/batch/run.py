"""One run of the command: finds what is to be done, has it done, and keeps the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import InputError
from .jobs import Job, Outcome, Work
from .journal import Journal
from .model import read_model
from .progress_count import WatchFn
from .reporting import Report
from .sources import Naming, find_jobs
from .whole_files import remove_parts
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
            failed = len(problems) + _work_off(work, todo, settings, pool, journal, report)
        finally:
            report.end()
    except sqlite3.Error as error:
        raise InputError(
            f"the journal in {naming.folder} cannot be written ({error}); make room on the disk, "
            "and run the same command again"
        ) from None
    finally:
        remove_parts(naming.folder)  # of workers that died
        journal.close()
    return Result(len(todo) + len(problems) - failed, skipped, failed)


def _work_off(
    work: Work,
    jobs: Sequence[Job],
    settings: str,
    pool: Pool,
    journal: Journal,
    report: Report,
) -> int:
    """Returns how many failed."""
    if not jobs:
        return 0
    by_name = {job.name: job for job in jobs}
    failed = 0
    for outcome in pool(work, jobs, report.working):
        job = by_name[outcome.name]
        journal.record(job, settings, outcome)
        report.file(job, outcome)
        failed += bool(outcome.error)
        if outcome.fatal:
            raise InputError(outcome.error)
    return failed
