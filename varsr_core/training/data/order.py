"""The order of samples of millions of pictures: any place of it is found without what is before.

It depends on (seed, epoch) and on how many pictures there are, not on processes or workers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch

from ...tiling.noise import derive_seed


def interleave(sizes: Sequence[int], position: int) -> tuple[int, int]:
    """Which of several sources a position of their mixture belongs to, and where in that it is.

    Every source is spread evenly over the whole, so that a few bad pictures do not come at once.

    position: 0 .. sum(sizes) - 1
    """
    left = sum(sizes)
    for which, size in enumerate(sizes[:-1]):
        before = position * size // left  # of this source
        if (position + 1) * size // left > before:
            return which, before
        position, left = position - before, left - size
    return len(sizes) - 1, position


class ShuffledFiles:
    """All files of an epoch in random order."""

    def __init__(self, count: int, name: str) -> None:
        self.count, self.name = count, name
        self._shuffled = Permutations()

    def __call__(self, seed: int, epoch: int, position: int) -> int:
        order = self._shuffled(derive_seed(seed, self.name, epoch), self.count)
        return int(order[position])


class ShuffledShards:
    """Shards in random order, and their samples shuffled within windows of that order.

    counts: samples of each shard
    window: a sample moves by less than this; in memory is one number for each of them
    """

    def __init__(self, counts: Sequence[int], window: int, name: str) -> None:
        self.counts, self.window, self.name = tuple(counts), window, name
        self.total = sum(counts)
        self._shuffled = Permutations()
        self._epoch: tuple[tuple[int, int] | None, list[int], list[int]] = (None, [], [])

    def __call__(self, seed: int, epoch: int, position: int) -> tuple[int, int]:
        """The shard and the sample in it."""
        if self._epoch[0] != (seed, epoch):
            shards = permutation(derive_seed(seed, self.name, epoch), len(self.counts)).tolist()
            ends = list(accumulate(self.counts[shard] for shard in shards))
            self._epoch = (seed, epoch), shards, ends
        _, shards, ends = self._epoch
        window, inside = divmod(position, self.window)
        first = window * self.window
        shuffled = self._shuffled(
            derive_seed(seed, self.name, epoch, window), min(self.window, self.total - first)
        )
        place = first + int(shuffled[inside])
        which = bisect_right(ends, place)
        return shards[which], place - (ends[which - 1] if which else 0)


class Permutations:
    """The last two that were asked for: a batch may reach from one into the next."""

    def __init__(self) -> None:
        self.kept: dict[int, torch.Tensor] = {}

    def __call__(self, seed: int, length: int) -> torch.Tensor:
        """(length,) int32: 0 .. length - 1 shuffled."""
        if seed not in self.kept:
            newest = list(self.kept.items())[-1:]
            self.kept = dict([*newest, (seed, permutation(seed, length))])
        return self.kept[seed]


def permutation(seed: int, length: int) -> torch.Tensor:
    """(length,) int32: 0 .. length - 1 shuffled."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(length, generator=generator, dtype=torch.int32)
