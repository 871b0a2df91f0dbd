"""What work on large files tells its caller; for work on pictures, see runtime/progress.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class FileProgress:
    """One stage of the work goes on; each has its own bytes.

    stage: what is being done, in the user's words
    done:  bytes
    total: bytes; 0 where they are not known
    """

    stage: str
    done: int = 0
    total: int = 0


FileProgressFn = Callable[[FileProgress], None]
"""Called while a stage goes on, and while it waits, too; may raise to cancel, with nothing to clean
up then."""


def silent(progress: FileProgress) -> None:
    """The FileProgressFn of callers that do not watch."""
