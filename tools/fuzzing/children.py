"""Cases tried in long-lived child processes, which may die or hang."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tools.fuzzing.common import Outcome, Trial, remove

PATIENCE = 300  # seconds without an answer: of a child that waits for what never comes


@dataclass
class _Child:
    """A process that tries one case after the other. number: of the last one it was asked for."""

    trial: Trial
    seed: int
    number: int = -1
    since: float = 0.0
    busy: bool = False
    process: multiprocessing.process.BaseProcess = field(init=False)
    pipe: Connection = field(init=False)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        given = (theirs, self.trial, self.seed)
        self.process = context.Process(target=_serve, args=given, daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, number: int, folder: Path) -> None:
        place = folder / str(number)
        remove(place)
        place.mkdir(parents=True)
        self.number, self.since, self.busy = number, time.monotonic(), True
        self.pipe.send((number, place))

    def answer(self, patience: float) -> Outcome:
        if not self.pipe.poll():
            said = f"no answer after {patience:.0f} s: it waits for something"
            return Outcome(self.number, "hangs", "?", said)
        try:
            outcome = self.pipe.recv()
            self.busy = False
            return outcome
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            died = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            slow = " (too much CPU time)" if code == -signal.SIGXCPU else ""
            return Outcome(self.number, "died", "?", f"the process ended with {died}{slow}")

    def end(self) -> None:
        """At once where it is at work; else it is asked to, and tidies up behind itself."""
        with suppress(OSError):
            self.pipe.send(None)
        self.pipe.close()
        self.process.join(0 if self.busy else 10)
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, trial: Trial, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())  # bars and warnings of the code under test
    with suppress(EOFError):
        while asked := pipe.recv():
            try:
                outcome = trial(seed, *asked)
            except BaseException:
                outcome = Outcome(asked[0], "fuzzer failed", "?", traceback.format_exc())
            pipe.send(outcome)


def in_children(
    trial: Trial,
    seed: int,
    numbers: Iterable[int],
    folder: Path,
    *,
    jobs: int = 1,
    keep: bool = False,
    patience: float = PATIENCE,
) -> Iterator[Outcome]:
    """Outcomes in any order. A child that dies or hangs fails the case, and another takes over.

    trial:  a function that a child can import
    folder: for the cases; keep: their files stay
    """
    left = list(numbers)[::-1]
    children: list[_Child] = []
    try:
        while left or children:
            while left and len(children) < jobs:
                children.append(_Child(trial, seed))
                children[-1].ask(left.pop(), folder)
            for child in _heard(children, patience):
                outcome = child.answer(patience)
                if not keep:
                    remove(folder / str(child.number))
                if outcome.fault or not left:
                    children.remove(child)
                    child.end()
                else:
                    child.ask(left.pop(), folder)
                yield outcome
    finally:
        for child in children:
            child.end()


def _heard(children: list[_Child], patience: float) -> list[_Child]:
    """Those with an answer, and those that have none for too long."""
    ready = wait([child.pipe for child in children], timeout=1.0)
    now = time.monotonic()
    return [one for one in children if one.pipe in ready or now - one.since > patience]
