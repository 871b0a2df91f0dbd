"""Training samples: random crops of picture files, and the pairs made from them.

A sample depends on (seed, epoch, index) and the files alone, so that a resumed run sees what an
unbroken one would have seen, however many workers read.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...errors import InputError
from ...images.resize import resize as resize_clamped
from ...tiling.noise import derive_seed
from .crops import Crop, RandomCrop
from .degradation import PUBLISHED, RESIZE_MODES, DegradationSettings, degrade, resize

if TYPE_CHECKING:
    from .paired_folders import PairedFolders
    from .pairs import PairFolder
    from .stream import PictureStream, StreamClasses, StreamPairs

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
READABLE = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # not EPS, for which Pillow runs a program
DEEP_MODES = ("I", "F")  # prefixes of Pillow's modes beyond 8 bits, which it converts wrongly
HIGH_QUALITY, LOW_QUALITY = 0, 1  # quality classes; guidance pushes away from the low one

Key = tuple[int, int, int]


class Sample(NamedTuple):
    """picture: (3, S, S) float32 in [0, 1]; quality: 0 high, 1 low."""

    picture: Tensor
    quality: int


class PictureBatch(NamedTuple):
    """pictures: (B, 3, S, S) float32 in [0, 1]; classes: (B,) their quality classes."""

    pictures: Tensor
    classes: Tensor


class PictureFolder(Dataset[Sample]):
    """Crops of the pictures under some folders.

    high, low:        folders (searched to any depth), files or globs; `low` may be empty
    size:             side of the crops in pixels; smaller pictures are left out
    negative_share:   of the samples from `high`, turned into class 1 by make_negative
    settings:         of that degradation
    flips, rotations: whether a crop is mirrored at random, and turned by a multiple of 90 degrees
    zoom:             smallest factor by which a larger crop is shrunk at random; 1 for never
    cache:            keeps all pictures decoded (3 bytes a pixel); forked workers share them
    rank, world_size: takes every world_size-th picture, starting at the rank-th
    crop:             in place of a random crop by flips, rotations and zoom

    A key is an index, or (seed, epoch, index). Opens every file once, when made, to read its size;
    files that cannot be read, then or later, are logged and passed over.
    """

    def __init__(
        self,
        high: Sequence[str | Path],
        low: Sequence[str | Path],
        size: int,
        *,
        negative_share: float = 0.1,
        settings: DegradationSettings = PUBLISHED,
        flips: bool = True,
        rotations: bool = True,
        zoom: float = 1.0,
        cache: bool = False,
        rank: int = 0,
        world_size: int = 1,
        crop: Crop | None = None,
    ) -> None:
        if negative_share > 0 and size % settings.scale:
            raise InputError(
                f"crops of {size} pixels cannot be degraded at scale {settings.scale}; "
                "choose a multiple of it"
            )
        self.size, self.negative_share, self.settings = size, negative_share, settings
        self.zoom = zoom
        self.crop = crop or RandomCrop(size, flips, rotations, zoom)
        self.rank, self.world_size = rank, world_size
        found = [(path, HIGH_QUALITY) for path in find_pictures(high)]
        found += [(path, LOW_QUALITY) for path in find_pictures(low)]
        self.files, self.cached = self._usable(found[rank::world_size], cache)
        self.unreadable: set[int] = set()  # found so while reading; known to this process only

    def _usable(
        self, found: list[tuple[Path, int]], cache: bool
    ) -> tuple[list[tuple[Path, int]], list[np.ndarray]]:
        """Files that are large enough and not broken, decoded if `cache`."""
        files, cached, small, broken = [], [], 0, 0
        for path, quality in found:
            try:
                pixels = load_picture(path) if cache else None
                sides = picture_size(path) if pixels is None else pixels.shape[:2]
            except Exception as error:  # Pillow raises nearly anything on a damaged file
                logger.debug("%s: %s", path, error)
                broken += 1
                continue
            if not self.crop.fits(*sides):
                small += 1
                continue
            files.append((path, quality))
            if pixels is not None:
                cached.append(pixels)
        if small or broken:
            logger.warning(
                "%d of %d pictures skipped: %d smaller than %dx%d, %d unreadable",
                small + broken,
                len(found),
                small,
                self.size,
                self.size,
                broken,
            )
        if not files:
            raise InputError(
                f"none of {len(found)} pictures is readable and at least {self.size}x{self.size}. "
                "Add pictures, use smaller crops, or fewer processes."
            )
        return files, cached

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int | Key) -> Sample:
        seed, epoch, index = key if isinstance(key, tuple) else (0, 0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0 to {len(self) - 1}")
        number = self.rank + self.world_size * index  # among the pictures of all processes
        generator = torch.Generator().manual_seed(derive_seed(seed, "sample", epoch, number))
        pixels, quality = self._read(index)
        sample = Sample(self.crop(pixels, quality == LOW_QUALITY, generator), quality)
        return spoil(sample, self.negative_share, self.settings, generator)

    def _read(self, index: int) -> tuple[np.ndarray, int]:
        """Pixels and class of a picture, or of the next one that can be read."""
        for candidate in chain(range(index, len(self)), range(index)):
            path, quality = self.files[candidate]
            if self.cached:
                return self.cached[candidate], quality
            if candidate in self.unreadable:
                continue
            try:
                return load_picture(path), quality
            except Exception as error:  # Pillow raises nearly anything on a damaged file
                self.unreadable.add(candidate)
                logger.warning("%s cannot be read and is passed over: %s", path, error)
        raise InputError(f"none of {len(self)} pictures can be read any more")


def spoil(
    sample: Sample, share: float, settings: DegradationSettings, generator: torch.Generator
) -> Sample:
    """A share of the good pictures becomes bad ones by make_negative."""
    wanted = torch.rand((), generator=generator).item() < share
    if wanted and sample.quality == HIGH_QUALITY:
        return Sample(make_negative(sample.picture[None], settings, generator)[0], LOW_QUALITY)
    return sample


def find_pictures(sources: Sequence[str | Path]) -> list[Path]:
    """Picture files in folders, to any depth, or matching globs; sorted, each once."""
    found: set[Path] = set()
    for source in sources:
        matches = [Path(match) for match in glob.glob(str(source), recursive=True)]
        if Path(source).exists():  # a name with brackets is a glob that does not match itself
            matches.append(Path(source))
        if not matches:
            raise InputError(f"{source} is no folder or file, and no glob that matches any")
        for match in matches:
            inside = match.rglob("*") if match.is_dir() else [match]
            found.update(path for path in inside if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if path.is_file())


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width as stored, from the header alone."""
    with Image.open(path, formats=READABLE) as image:
        _refuse_deep(image)
        return image.height, image.width


def load_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, turned upright."""
    return decode_picture(path)


def decode_picture(source: Path | IO[bytes]) -> np.ndarray:
    """The same from a file that is open, or from memory."""
    with Image.open(source, formats=READABLE) as image:
        _refuse_deep(image)
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _refuse_deep(image: Image.Image) -> None:
    if image.mode.startswith(DEEP_MODES):
        raise ValueError(f"mode {image.mode} is not 8 bits a channel")


def make_negative(hr: Tensor, settings: DegradationSettings, generator: torch.Generator) -> Tensor:
    """Bad pictures at full size, as targets of class 1: (B, 3, H, W) -> the same, in [0, 1]."""
    return resize_clamped(degrade(hr, settings, generator), *hr.shape[2:])


def make_pair(
    hr: Tensor, settings: DegradationSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What a restorer is given and what it should make of it.

    hr:      (B, 3, H, W) in [0, 1], sides multiples of the scale
    returns  degraded pictures, enlarged again by area, bilinear or bicubic at random, and hr
    """
    height, width = hr.shape[2:]
    enlarged = []
    for small in degrade(hr, settings, generator):
        mode = RESIZE_MODES[int(torch.randint(len(RESIZE_MODES), (), generator=generator))]
        if mode == "bicubic":  # the one that restoring uses
            enlarged.append(resize_clamped(small[None], height, width)[0])
        else:
            enlarged.append(resize(small, height, width, mode))
    return torch.stack(enlarged), hr


def batches(
    dataset: PictureFolder
    | PairFolder
    | PairedFolders
    | PictureStream
    | StreamPairs
    | StreamClasses,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    workers: int = 0,
    share: range | None = None,
    ordered: bool = False,
) -> Iterator[tuple[Tensor, ...]]:
    """Samples or pairs, collated, from the start_step-th batch on, without end.

    The n-th batch depends on (seed, n) alone. Every picture comes once an epoch; a batch may reach
    from one epoch into the next.

    share:   which samples of every batch are wanted; None for all
    ordered: the dataset shuffles by itself, as a PictureStream does
    """
    share = share or range(batch_size)
    keys = _batch_keys(len(dataset), batch_size, seed, start_step, share, ordered)
    # A generator of its own, for otherwise the loader draws from the process-wide one.
    generator = torch.Generator().manual_seed(derive_seed(seed, "loader"))
    return iter(DataLoader(dataset, batch_sampler=keys, num_workers=workers, generator=generator))


def _batch_keys(
    length: int,
    batch_size: int,
    seed: int,
    start_step: int,
    share: range,
    ordered: bool,
) -> Iterator[list[Key]]:
    shuffled, order = -1, []
    for step in count(start_step):
        keys = []
        for number in (step * batch_size + place for place in share):
            epoch, index = divmod(number, length)
            if epoch != shuffled and not ordered:
                generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
                shuffled, order = epoch, torch.randperm(length, generator=generator).tolist()
            keys.append((seed, epoch, index if ordered else order[index]))
        yield keys
