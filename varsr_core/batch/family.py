"""What a model family tells the command: its options, its files, its restorer."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import Checkpoint
from ..tiling.restorer import Restorer


@dataclass(frozen=True)
class BatchFamily:
    """One model family.

    default:    the model file of `--model default`, or None where none comes with the pack
    add_to:     adds the options of the family to the command
    choices:    the user's values of these options, checked, as one frozen dataclass
    files:      all files of a model, given the one that the user named
    build:      a network from a file
    restorer:   a network and choices -> what `upscale()` takes
    tile_bytes: of a network and choices: memory that work on one tile takes beside the weights
    """

    default: Path | None
    add_to: Callable[[ArgumentParser], None]
    choices: Callable[[Namespace], Any]
    files: Callable[[Path], list[Path]]
    build: Callable[[Checkpoint, torch.dtype], torch.nn.Module]
    restorer: Callable[[Any, Any], Restorer]
    tile_bytes: Callable[[Any, Any], int]
