"""The only thing the core tells its caller while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """One finished piece of work.

    done, total: pieces of work of this call, so done / total is the finished share
    stage:       what was just finished, in the user's words
    tiles:       of all pictures of this call, where its steps are counted; else 0
    step:        which of a tile's steps that was, from 0 on; None for other work
    picture:     (3, h, w) in [0, 1] a preview of the picture so far, for callers that want it
    """

    done: int
    total: int
    stage: str
    tiles: int = 0
    step: int | None = None
    picture: Tensor | None = None


ProgressFn = Callable[[Progress], None]
"""Called after every piece of work; may raise to cancel, with nothing to clean up then."""


def silent(progress: Progress) -> None:
    """The ProgressFn of callers that do not watch."""
