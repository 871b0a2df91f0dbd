"""The pictures of a run as endless batches, on this process's device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import distributed

from ..config import TrainingConfig
from ..loop import LoopSettings
from .pairs import PairBatch, PairFolder
from .pictures import PictureBatch, PictureFolder, batches


@dataclass(frozen=True)
class TrainingData:
    """high, low: folders of good and, for the negative of guidance, of bad pictures
    size:      side of the crops in pixels, the one that the model knows

    Every method gives batches from step `first` on, and opens no picture before the first is asked
    for: a stage that is done already takes no time.
    """

    high: list[Path]
    low: list[Path]
    size: int
    config: TrainingConfig
    device: torch.device

    def pictures(self, settings: LoopSettings, first: int) -> Iterator[PictureBatch]:
        """Crops of good and of bad pictures."""
        size, workers = _share_of_process(settings.batch), self.config.workers
        for batch in batches(self.folder(), size, self.config.seed, first, workers):
            yield PictureBatch(*(part.to(self.device) for part in batch))

    def pairs(self, settings: LoopSettings, first: int, good: bool = False) -> Iterator[PairBatch]:
        """The same with a low-quality picture made of each; of good pictures alone if `good`."""
        size, workers = _share_of_process(settings.batch), self.config.workers
        dataset = PairFolder(self.folder(good))
        for batch in batches(dataset, size, self.config.seed, first, workers):
            yield PairBatch(*(part.to(self.device) for part in batch))

    def good_pairs(self, settings: LoopSettings, first: int) -> Iterator[PairBatch]:
        """Pairs of good pictures alone."""
        return self.pairs(settings, first, good=True)

    def folder(self, good: bool = False) -> PictureFolder:
        """Pictures that this process reads; of the good ones alone if `good`."""
        several = distributed.is_initialized()
        return PictureFolder(
            self.high,
            [] if good else self.low,
            self.size,
            negative_share=0.0 if good or self.low else self.config.negative_share,
            settings=self.config.degradation,
            zoom=self.config.zoom,
            cache=self.config.cache,
            rank=distributed.get_rank() if several else 0,
            world_size=distributed.get_world_size() if several else 1,
        )


def _share_of_process(batch: int) -> int:
    """Pictures of a batch that this process takes."""
    return max(1, batch // (distributed.get_world_size() if distributed.is_initialized() else 1))
