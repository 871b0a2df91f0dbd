"""Pairs that lie ready as files: a folder of bad pictures and one of what they should become.

For targets that cannot be made while training runs, as another model's results, and for pairs that
were taken by two cameras.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import InputError
from ...images.resize import resize
from ...tiling.noise import derive_seed
from .crops import to_tensor
from .pairs import Pair
from .pictures import HIGH_QUALITY, LOW_QUALITY, Key, find_pictures, load_picture, picture_size

TURNS = 4  # of 90 degrees each


class PairedFiles(NamedTuple):
    """Two files of the same name; `scale` is how much larger the sides of the target are."""

    low: Path
    target: Path
    scale: int


class PairedFolders(Dataset[Pair]):
    """Crops of pairs of files, at the same place of both, turned and mirrored alike at random.

    low, target:    folders with files of the same names, whatever their suffixes; a target's sides
                    are a whole multiple of its low-quality picture's
    size:           side of the crops of the target in pixels
    negative_share: of the samples whose target is the low-quality picture, enlarged: class 1
    cache:          keeps all pictures decoded; forked workers share them
    rank, world_size: takes every world_size-th pair, starting at the rank-th

    A key is (seed, epoch, index), as of a PictureFolder. Raises InputError that names the files
    that do not fit.
    """

    def __init__(
        self,
        low: Path,
        target: Path,
        size: int,
        *,
        negative_share: float = 0.0,
        cache: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.size, self.negative_share = size, negative_share
        self.rank, self.world_size = rank, world_size
        self.files = match(low, target, size)[rank::world_size]
        if not self.files:
            raise InputError(
                f"{world_size} processes share fewer pairs than that: {target}; use fewer processes"
            )
        self.cached = [_load(files) for files in self.files] if cache else []

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Key) -> Pair:
        seed, epoch, index = key
        number = self.rank + self.world_size * index  # among the pairs of all processes
        generator = torch.Generator().manual_seed(derive_seed(seed, "files", epoch, number))
        small, large = self.cached[index] if self.cached else _load(self.files[index])
        lq, target = crop_pair(small, large, self.files[index].scale, self.size, generator)
        if torch.rand((), generator=generator).item() < self.negative_share:
            return Pair(lq, lq, LOW_QUALITY)
        return Pair(lq, target, HIGH_QUALITY)


def match(low: Path, target: Path, size: int) -> list[PairedFiles]:
    """Files of both folders by their names without suffix, sorted."""
    lows, targets = ({path.stem: path for path in find_pictures([f])} for f in (low, target))
    alone = sorted(lows.keys() ^ targets.keys())
    if alone:
        raise InputError(
            f"{len(alone)} pictures are in only one of {low} and {target}, the first is "
            f"{alone[0]!r}; pairs are files of the same name"
        )
    return [_fitting(lows[name], targets[name], size) for name in sorted(targets)]


def _fitting(low: Path, target: Path, size: int) -> PairedFiles:
    """Reads the sizes of a pair, and says what is wrong with them."""
    small, large = picture_size(low), picture_size(target)
    scale = whole_multiple(small, large, size)
    if scale is None:
        raise InputError(
            f"{target} has {large[1]}x{large[0]} pixels, {low} {small[1]}x{small[0]}: its sides "
            f"are to be a whole multiple, which divides the tile of {size} pixels"
        )
    if min(large) < size:
        raise InputError(
            f"{target} has {large[1]}x{large[0]} pixels; crops of {size}x{size} do not fit in"
        )
    return PairedFiles(low, target, scale)


def crop_pair(
    small: np.ndarray, large: np.ndarray, scale: int, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The same place of both at random, turned and mirrored alike.

    small:  (H, W, 3) uint8; large: (H * scale, W * scale, 3) uint8
    returns the low-quality picture, enlarged, and its target: (3, size, size) in [0, 1]
    """
    part = size // scale
    top, left = (
        int(torch.randint(length - part + 1, (), generator=generator)) for length in small.shape[:2]
    )
    low = to_tensor(small[top : top + part, left : left + part])
    top, left = top * scale, left * scale
    target = to_tensor(large[top : top + size, left : left + size])
    mirrored, turns = divmod(int(torch.randint(2 * TURNS, (), generator=generator)), TURNS)
    low, target = (_turn(picture, turns, bool(mirrored)) for picture in (low, target))
    return resize(low[None], size, size)[0], target


def whole_multiple(small: Sequence[int], large: Sequence[int], size: int) -> int | None:
    """How much larger the sides of the target are, if that is a whole number that divides the crop.

    small, large: height and width
    """
    scale = large[0] // small[0]
    fits = scale >= 1 and (large[0], large[1]) == (small[0] * scale, small[1] * scale)
    return scale if fits and size % scale == 0 else None


def _load(files: PairedFiles) -> tuple[np.ndarray, np.ndarray]:
    return load_picture(files.low), load_picture(files.target)


def _turn(picture: Tensor, turns: int, mirrored: bool) -> Tensor:
    picture = picture.flip(2) if mirrored else picture
    return picture.rot90(turns, (1, 2)).contiguous()
