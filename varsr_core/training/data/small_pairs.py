"""Pairs whose low-quality picture keeps the size at which it was degraded, a quarter of the tile.

Networks that are shown the low-quality picture itself learn from these: enlarging and shrinking it
again would take from it what they see when they restore.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import InputError
from ...images.resize import resize
from ...tiling.noise import derive_seed
from ..loop import LoopSettings
from .degradation import degrade
from .loading import TrainingData
from .paired_folders import PairedFolders
from .pictures import Key, PictureFolder, find_pictures


class SmallPair(NamedTuple):
    """lq: (3, s, s) and target: (3, S, S) in [0, 1]; number: of the file, -1 if it is not known."""

    lq: Tensor
    target: Tensor
    number: int


class SmallPairBatch(NamedTuple):
    """lq: (B, 3, s, s) and target: (B, 3, S, S) in [0, 1]; files: that of each picture, if known"""

    lq: Tensor
    target: Tensor
    files: list[Path | None]


class SmallPairFolder(Dataset[SmallPair]):
    """Good pictures, each with what a degradation makes of it."""

    def __init__(self, pictures: PictureFolder) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key) -> SmallPair:
        target = self.pictures[key].picture
        generator = torch.Generator().manual_seed(derive_seed(key[0], "pair", *key[1:]))
        lq = degrade(target[None], self.pictures.settings, generator)[0]
        # A file that cannot be read is stood in for by another.
        return SmallPair(lq, target, -1 if key[2] in self.pictures.unreadable else key[2])


class SmallPairedFiles(Dataset[SmallPair]):
    """Pairs of files; the low-quality picture at the size that a degradation would give it.

    scale: sides of the target for each of that
    """

    def __init__(self, pairs: PairedFolders, scale: int) -> None:
        self.pairs, self.side = pairs, pairs.size // scale

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: Key) -> SmallPair:
        pair = self.pairs[key]
        return SmallPair(resize(pair.lq[None], self.side, self.side)[0], pair.target, key[2])


def good_files(data: TrainingData) -> list[Path]:
    """Files that small_pairs() may read, those that it will find too small with them."""
    return find_pictures(data.high if data.paired is None else [data.paired[1]])


def small_pairs(data: TrainingData, settings: LoopSettings, first: int) -> Iterator[SmallPairBatch]:
    """Batches of good pictures from step `first` on, on the device of `data`.

    Raises InputError for pictures in tar files.
    """
    if data.streamed and data.paired is None:
        raise InputError(
            "this model learns from pictures in folders, and tar files are given; unpack them, or "
            "name folders with --pairs"
        )
    if data.paired is None:
        pictures = data.folder(good=True)
        files = [path for path, _ in pictures.files]
        dataset = SmallPairFolder(pictures)
    else:
        pairs = data.files(good=True)
        files = [pair.target for pair in pairs.files]
        dataset = SmallPairedFiles(pairs, data.config.degradation.scale)
    for lq, target, numbers in data.batches(dataset, settings, first):
        found = [None if number < 0 else files[number] for number in numbers.tolist()]
        yield SmallPairBatch(lq.to(data.device), target.to(data.device), found)
