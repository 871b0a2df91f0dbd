"""Files that the user names beside the pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sources:
    """
    start: a checkpoint to go on from, or None for a new model
    base:  the model that a network which only helps it is trained for, which stays as it is
    texts: features of prompts, for models that read a text: one file for all pictures, or a folder
           with one for each, of the picture's name
    further: files that belong to `start`, for models that come in several
    folder:  of the run
    resumed: whether `start` is the run's own model, from which it goes on
    """

    start: Path | None = None
    base: Path | None = None
    texts: Path | None = None
    further: tuple[Path, ...] = ()
    folder: Path | None = None
    resumed: bool = False
