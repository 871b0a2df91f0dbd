"""The only thing the core tells its caller while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

StageKey = Literal["encoding", "scale", "refining", "decoding", "finishing"]
STAGE_KEYS: tuple[str, ...] = get_args(StageKey)


@dataclass(frozen=True)
class Stage:
    """What is being done; as text, in the user's words.

    key:    for programs; finishing is what comes behind the model: colours, mask, alpha, size
    scale:  which of the model's scales, from 1 on; None for all else
    scales: how many the model has; None for all else
    """

    key: StageKey
    scale: int | None = None
    scales: int | None = None

    def __str__(self) -> str:
        return self.key if self.scale is None else f"{self.key} {self.scale} of {self.scales}"


ENCODING, REFINING, DECODING = Stage("encoding"), Stage("refining"), Stage("decoding")
FINISHING = Stage("finishing")

DrawFn = Callable[[], Tensor]
"""Draws a preview of the picture as it is now: (3, h, w) in [0, 1], on the CPU. To be called before
the next piece of work, if at all: it takes milliseconds."""


@dataclass(frozen=True)
class Progress:
    """Work begins, goes on or ends.

    done, total: units of work of this call, so that done / total is the share of the time; total is
                 reached once, at the very end
    stage:       what is being done, or was just finished
    tiles:       of all pictures of this call, where its steps are counted; else 0
    step:        which of a tile's steps was just finished, from 0 on; None for all else
    stepped:     how many tiles have taken that step now; 0 for all else
    draw:        where there is a picture to show, for callers that want previews
    """

    done: int
    total: int
    stage: Stage
    tiles: int = 0
    step: int | None = None
    stepped: int = 0
    draw: DrawFn | None = None


ProgressFn = Callable[[Progress], None]
"""Called when a piece of work begins, as it goes on and when it ends; may raise to cancel, with
nothing to clean up then."""


def silent(progress: Progress) -> None:
    """The ProgressFn of callers that do not watch."""
