"""What a model family tells `checkpoint.py` about its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Family:
    """One model family.

    name:      as written in the metadata of our files
    complete:  the part that is a whole converted model; other parts are pieces of a release
    split:     the parts found in a group of named tensors, by the family's own names for them;
               empty when the group is another family's
    assemble:  parts -> our names; raises CheckpointError when one is missing
    fix_dtype: dtype of a tensor of ours in a file of a given dtype
    """

    name: str
    complete: str
    split: Callable[[StateDict], dict[str, StateDict]]
    assemble: Callable[[Mapping[str, StateDict]], StateDict]
    fix_dtype: Callable[[str, Tensor, torch.dtype], torch.dtype]
