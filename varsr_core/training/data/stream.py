"""Samples from tar files and lists of files, mixed evenly, in one order for all processes.

A sample depends on (seed, epoch, place in the epoch) and on the sources alone: a resumed run sees
what an unbroken one would have seen, whatever the number of processes and workers, and takes no
time to find where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import InputError
from ...tiling.noise import derive_seed
from .crops import Crop
from .degradation import DegradationSettings
from .item import Item, Source
from .order import interleave
from .paired_folders import crop_pair, whole_multiple
from .pairs import Pair
from .pictures import HIGH_QUALITY, LOW_QUALITY, Key, Sample, make_pair, spoil

logger = logging.getLogger(__name__)

PATIENCE = 1000  # samples that may be too small, one after the other


class ClassSample(NamedTuple):
    """picture: (3, S, S) float32 in [0, 1]; label: its class, or the null row"""

    picture: Tensor
    label: int


class PictureStream(Dataset[Sample]):
    """Crops of single pictures, good and bad.

    sources:        with at least one picture
    size:           side of the crops in pixels; pictures that `crop` says are too small are passed
                    over when they are read
    negative_share: of the good pictures, turned into class 1 by make_negative
    settings:       of that degradation

    A key is (seed, epoch, place in the epoch).
    """

    def __init__(
        self,
        sources: Sequence[Source],
        size: int,
        crop: Crop,
        *,
        negative_share: float,
        settings: DegradationSettings,
    ) -> None:
        if negative_share > 0 and size % settings.scale:
            raise InputError(
                f"crops of {size} pixels cannot be degraded at scale {settings.scale}; "
                "choose a multiple of it"
            )
        self.sources, self.size, self.crop = list(sources), size, crop
        self.negative_share, self.settings = negative_share, settings
        self.sizes = [len(source) for source in sources]
        if not sum(self.sizes):
            raise InputError(
                "there is no picture in what --data names: expected are folders of pictures, or "
                "tar files as shards/{000..127}.tar"
            )
        self.told_of_small = False

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitem__(self, key: Key) -> Sample:
        return self.cut(self.item(key), key)

    def cut(self, item: Item, key: Key) -> Sample:
        """The sample that a key makes of a picture."""
        generator = generator_of("sample", key)
        picture = self.crop(item.pixels, item.quality == LOW_QUALITY, generator)
        return spoil(Sample(picture, item.quality), self.negative_share, self.settings, generator)

    def item(self, key: Key) -> Item:
        """The picture of a key, or the next of its source that can be read and is large enough."""
        seed, epoch, place = key
        if not 0 <= place < len(self):
            raise IndexError(f"place {place} is outside 0 to {len(self) - 1}")
        which, position = interleave(self.sizes, place)
        for item in islice(self.sources[which].items(seed, epoch, position), PATIENCE):
            height, width = item.pixels.shape[:2]
            if self._fits(item):
                return item
            if not self.told_of_small:
                self.told_of_small = True
                logger.warning(
                    "pictures that crops of %dx%d do not fit in are passed over; the first has "
                    "%dx%d",
                    self.size, self.size, width, height,
                )  # fmt: skip
        raise InputError(
            f"none of the next pictures, up to {PATIENCE}, can be read and used for crops of "
            f"{self.size}x{self.size}. Add pictures, or use smaller crops."
        )

    def _fits(self, item: Item) -> bool:
        height, width = item.pixels.shape[:2]
        if item.low is None:
            return self.crop.fits(height, width)
        scale = whole_multiple(item.low.shape, item.pixels.shape, self.size)
        return scale is not None and min(height, width) >= self.size


class StreamPairs(Dataset[Pair]):
    """The same with a low-quality picture for each: its own where it has one, else made of it."""

    def __init__(self, pictures: PictureStream) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key) -> Pair:
        pictures, generator = self.pictures, generator_of("pair", key)
        item = pictures.item(key)
        if item.low is None:
            picture, quality = pictures.cut(item, key)
            lq, target = make_pair(picture[None], pictures.settings, generator)
            return Pair(lq[0], target[0], quality)
        scale = len(item.pixels) // len(item.low)
        lq, target = crop_pair(item.low, item.pixels, scale, pictures.size, generator)
        if torch.rand((), generator=generator).item() < pictures.negative_share:
            return Pair(lq, lq, LOW_QUALITY)
        return Pair(lq, target, HIGH_QUALITY)


class StreamClasses(Dataset[ClassSample]):
    """Good pictures with the class of what they show.

    classes: N; the null row is the N-th
    dropout: share of the samples that have it in place of their class
    """

    def __init__(self, pictures: PictureStream, classes: int, dropout: float) -> None:
        highest = max(source.classes for source in pictures.sources) - 1
        self.classes = classes or highest + 1
        if highest >= self.classes:
            raise InputError(
                f"the highest class of a picture is {highest}, and num_classes is {classes}: "
                f"expected are classes from 0 to {classes - 1}"
            )
        self.pictures, self.dropout = pictures, dropout

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key) -> ClassSample:
        item = self.pictures.item(key)
        picture = self.pictures.crop(item.pixels, False, generator_of("sample", key))
        dropped = torch.rand((), generator=generator_of("class", key)).item() < self.dropout
        return ClassSample(picture, self.classes if dropped else item.label)


def generator_of(use: str, key: Key) -> torch.Generator:
    """For the draws of one sample."""
    seed, *place = key
    return torch.Generator().manual_seed(derive_seed(seed, use, *place))
