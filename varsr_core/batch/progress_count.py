"""How far a worker is with a file, counted in tiles."""

from __future__ import annotations

from collections.abc import Callable

from ..runtime.progress import Progress

WatchFn = Callable[[float, float], None]
"""Told how many of the files in hand are finished, in shares, and of tiles done since then."""


class TileCount:
    """A ProgressFn for one or several calls of `upscale()` on one file, or one call on several.

    tiles: that were finished
    """

    def __init__(self, watch: WatchFn) -> None:
        self.watch = watch
        self.tiles = 0
        self.begin(0.0, 1.0)

    def begin(self, start: float, length: float) -> None:
        """The next call does this share of the file, or so many files."""
        self.start, self.length, self.before = start, length, 0.0

    def __call__(self, progress: Progress) -> None:
        share = progress.done / max(progress.total, 1)
        done = share * progress.tiles
        self.watch(self.start + share * self.length, done - self.before)
        self.before = done
        if progress.done >= progress.total:
            self.tiles += progress.tiles
