"""What a model family tells `checkpoint.py` about its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import CheckpointError
from .files.lazy_tensor import LazyTensor, StateDict
from .nn.float8 import FLOAT8


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
    complete:  the part that is a whole converted model; other parts are pieces of a release
    split:     the parts found in a group of named tensors, by the family's own names for them;
               empty when the group is another family's
    assemble:  parts -> our names; raises CheckpointError when one is missing
    fix_dtype: dtype of a tensor of ours in a file of a given dtype
    pack:      our names -> what a file of a given dtype holds; raises CheckpointError for a dtype
               that is not offered
    """

    name: str
    title: str
    complete: str
    split: Callable[[StateDict], dict[str, StateDict]]
    assemble: Callable[[Mapping[str, StateDict]], StateDict]
    fix_dtype: Callable[[str, Tensor | LazyTensor, torch.dtype], torch.dtype]
    pack: Callable[[StateDict, torch.dtype], StateDict] = as_they_are

    @property
    def loader(self) -> str:
        """The node for its files."""
        return f"Load {self.title} Model"


def count_numbered(weights: StateDict, pattern: str) -> int:
    """How many consecutive numbers, from 0, make `pattern` the name of a tensor."""
    count = 0
    while pattern.format(count) in weights:
        count += 1
    if count == 0:
        raise KeyError(pattern.format(0))
    return count
