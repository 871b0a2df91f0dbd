"""Restoring samples made where pictures are read: degradation runs in the loader's workers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...tiling.noise import derive_seed
from .pictures import Key, PictureFolder, make_pair


class Pair(NamedTuple):
    """lq, target: (3, S, S) in [0, 1]; quality: class of the target."""

    lq: Tensor
    target: Tensor
    quality: int


class PairBatch(NamedTuple):
    """lq, target: (B, 3, S, S) in [0, 1]; classes: (B,) quality classes of the targets."""

    lq: Tensor
    target: Tensor
    classes: Tensor


class PairFolder(Dataset[Pair]):
    """A PictureFolder whose samples come with a low-quality picture; the same keys."""

    def __init__(self, pictures: PictureFolder) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key) -> Pair:
        sample = self.pictures[key]
        generator = torch.Generator().manual_seed(derive_seed(key[0], "pair", *key[1:]))
        lq, target = make_pair(sample.picture[None], self.pictures.settings, generator)
        return Pair(lq[0], target[0], sample.quality)
