"""What all fuzzers share: how a case is drawn, watched and told of."""

from __future__ import annotations

import math
import os
import random
import resource
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SLOWEST = 5  # cases that a report names


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    kind:    by which it is counted, e.g. the class of an error
    what:    the case in words
    fault:   what must not be; "" where all is well
    seconds: of CPU, of the code under test
    """

    number: int
    kind: str
    what: str
    fault: str = ""
    seconds: float = 0.0


Trial = Callable[[int, int, Path], Outcome]
"""(seed, number of the case, an empty folder for its files) -> what came of it."""


def draw(fuzzer: str, seed: int, number: int) -> random.Random:
    """Of one case; the same in every process."""
    return random.Random(f"{fuzzer} {seed} {number}")


@dataclass
class Spent:
    """seconds: of CPU; bytes: the most memory this process held."""

    seconds: float = 0.0
    bytes: int = 0


@contextmanager
def watched(seconds: int) -> Iterator[Spent]:
    """Ends this process where the code takes far more CPU time than it may."""
    with suppress(OSError):  # Linux: forgets the most memory that was held so far
        Path("/proc/self/clear_refs").write_text("5")
    spent, began = Spent(), time.process_time()
    before = resource.getrlimit(resource.RLIMIT_CPU)
    most = math.ceil(sum(os.times()[:2])) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, before[1]))
    try:
        yield spent
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, before)
        spent.seconds = time.process_time() - began
        spent.bytes = _most_memory()


def _most_memory() -> int:
    """That this process held, in bytes.

    Not ru_maxrss where Linux tells another: that begins with what the parent held when it started
    this process, and nothing makes it forget.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def remove(folder: Path) -> None:
    """With all that is in it, whatever its permissions say."""
    for inner, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(inner, name)
            if not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)


def said(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


class Report:
    """Prints faults as they come, and sums up."""

    def __init__(self, fuzzer: str, seed: int) -> None:
        self.fuzzer, self.seed = fuzzer, seed
        self.outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if outcome.fault:
            print(self._line(outcome), flush=True)
        elif len(self.outcomes) % 100 == 0:
            print(f"{len(self.outcomes)} cases", flush=True)

    def _line(self, outcome: Outcome) -> str:
        again = f"python tools/fuzz.py {self.fuzzer} --seed {self.seed} --only {outcome.number}"
        return f"FAULT {outcome.number}: {outcome.fault}\n    {outcome.what}\n    {again}"

    def end(self) -> int:
        """The exit code."""
        faults = sorted((one for one in self.outcomes if one.fault), key=lambda one: one.number)
        print(f"\n{self.fuzzer}, seed {self.seed}: {len(self.outcomes)} cases")
        for kind, count in Counter(one.kind for one in self.outcomes).most_common():
            print(f"{count:7}  {kind}")
        print("slowest:")
        for one in sorted(self.outcomes, key=lambda one: -one.seconds)[:SLOWEST]:
            print(f"{one.seconds:6.2f} s  {one.number}: {one.what}")
        print(f"{len(faults)} faults")
        for one in faults:
            print(self._line(one))
        return 1 if faults else 0
