"""One descriptor says all that the rest of the pack must know of a model family."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import CheckpointError
from .files.fingerprint import Fingerprint
from .files.lazy_tensor import LazyTensor, StateDict
from .nn.float8 import FLOAT8
from .tiling.restorer import Restorer


def as_they_are(weights: StateDict, dtype: torch.dtype) -> StateDict:
    """`pack` of a family whose files hold no fp8."""
    if dtype == FLOAT8:
        raise CheckpointError("fp8 is offered for larger models only; choose another dtype")
    return weights


@dataclass(frozen=True)
class Family:
    """One model family.

    name:      as written in the metadata of our files
    title:     as people know it

    Files:
    default:   of the model that comes with the pack, or None
    files:     all files of a model, given the one that the user named
    complete:  the part that is a whole converted model; other parts are pieces of a release
    split:     the parts found in a group of named tensors, by the family's own names for them;
               empty when the group is another family's
    assemble:  parts -> our names; raises CheckpointError when one is missing
    fix_dtype: dtype of a tensor of ours in a file of a given dtype
    pack:      our names -> what a file of a given dtype holds; raises CheckpointError for a dtype
               that is not offered

    Running:
    build:     a network from our names; takes dtype, attention, operations and fingerprint
    restorer:  a network and choices (None for the defaults) -> what `upscale()` takes

    The command:
    add_to:    adds the options of the family
    choices:   the user's values of these options, checked, as one frozen dataclass
    """

    name: str
    title: str
    default: Path | None
    files: Callable[[Path], list[Path]]
    complete: str
    split: Callable[[StateDict], dict[str, StateDict]]
    assemble: Callable[[Mapping[str, StateDict]], StateDict]
    fix_dtype: Callable[[str, Tensor | LazyTensor, torch.dtype], torch.dtype]
    build: Callable[..., nn.Module]
    restorer: Callable[[Any, Any], Restorer[Any]]
    add_to: Callable[[ArgumentParser], None]
    choices: Callable[[Namespace], Any]
    pack: Callable[[StateDict, torch.dtype], StateDict] = as_they_are

    @property
    def loader(self) -> str:
        """The node for its files."""
        return f"Load {self.title} Model"


@dataclass(frozen=True)
class Checkpoint:
    """A whole model under our names, in the dtype of its file.

    fingerprint: of the weights before any cast, so a model and its conversions count as one
    metadata:    of the file it came from, or empty
    files:       names of the files it came from, for people
    """

    family: Family
    tensors: StateDict
    fingerprint: Fingerprint
    metadata: Mapping[str, str]
    files: str = ""

    def build(self, **options: Any) -> nn.Module:
        """The network; options as the family's `build` takes them: dtype, attention, operations."""
        try:
            return self.family.build(self.tensors, fingerprint=self.fingerprint, **options)
        except CheckpointError as error:
            raise CheckpointError(f"{self.files}: {error}" if self.files else str(error)) from error


def count_numbered(weights: StateDict, pattern: str) -> int:
    """How many consecutive numbers, from 0, make `pattern` the name of a tensor."""
    count = 0
    while pattern.format(count) in weights:
        count += 1
    if count == 0:
        raise KeyError(pattern.format(0))
    return count
