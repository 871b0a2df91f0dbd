"""A picture as it was read, before it is cropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np


class Item(NamedTuple):
    """pixels:  (H, W, 3) uint8
    low:     (h, w, 3) uint8, the low-quality picture of a pair; None for a picture alone
    quality: 0 high, 1 low
    label:   class of what it shows; -1 for none
    """

    pixels: np.ndarray
    low: np.ndarray | None
    quality: int
    label: int


class Source(Protocol):
    """Samples in an order of their own for each epoch."""

    def __len__(self) -> int: ...

    @property
    def classes(self) -> int:
        """1 more than the highest class of its samples. Raises InputError where some have none."""
        ...

    def items(self, seed: int, epoch: int, position: int) -> Iterator[Item]:
        """The sample at a place of an epoch, if it can be read; then others to take instead."""
        ...
