"""What became of a job; the one place where exceptions turn into what the user is told."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from ..errors import CheckpointError, InputError
from .jobs import Job

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """What became of a job; travels between processes.

    error:        in the user's words; "" where the output was written
    stamp:        of the inputs, see Job; "" where they could not be read
    content_hash: of the inputs
    bytes:        of the output
    tiles:        that were restored
    seconds:      that it took
    fatal:        whether every other job would fail for the same reason
    notes:        what of the input was converted or left out, in the user's words
    """

    name: str
    error: str = ""
    stamp: str = ""
    content_hash: str = ""
    bytes: int = 0
    tiles: int = 0
    seconds: float = 0.0
    fatal: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of_inputs(cls, job: Job) -> Outcome:
        """What is known before it is restored. Raises OSError for files that cannot be read."""
        return cls(job.name, stamp=job.stamp(), content_hash=job.content_hash())


def attempt(known: Outcome, action: Callable[[], Result]) -> Result | Outcome:
    """What `action` returns; where it raises, the outcome of a job that failed.

    known: of the job so far
    """
    try:
        return action()
    except Exception as error:
        return failed(known, error)


def failed(known: Outcome, error: Exception) -> Outcome:
    """A bug is told by its name, and ends no run."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"the disk is full ({error}); make room, and run the same command again"
        return replace(known, error=text, fatal=True)
    if isinstance(error, (CheckpointError, InputError)):
        return replace(known, error=str(error))
    return replace(known, error=f"{type(error).__name__}: {error}")
