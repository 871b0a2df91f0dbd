"""The pictures of a run as endless batches, on this process's device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import InputError
from ..config import TrainingConfig
from ..loop import LoopSettings
from ..steps.processes import own_share, place
from .class_table import read_classes
from .crops import Crop, PublicCrop, RandomCrop
from .damage import Damage
from .item import Source
from .listed_files import ListedFiles
from .paired_folders import PairedFolders
from .pairs import PairBatch, PairFolder
from .pictures import (
    HIGH_QUALITY,
    LOW_QUALITY,
    PictureBatch,
    PictureFolder,
    batches,
    find_pictures,
)
from .score_table import read_scores
from .shards import Shards
from .sources import split_sources
from .stream import PictureStream, StreamClasses, StreamPairs


class ClassBatch(NamedTuple):
    """pictures: (B, 3, S, S) float32 in [0, 1]; labels: (B,) int64, N for the null row"""

    pictures: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TrainingData:
    """high, low: good and, for the negative of guidance, bad pictures: folders, files, globs, or
               tar files by name or pattern (see sources.py)
    size:      side of the crops in pixels, the one that the model knows
    paired:    folders of low-quality pictures and of their targets, for the stages that learn from
               pairs; None to make pairs of the good pictures
    divided:   whether processes share the samples of a batch, where there are several

    Every method gives batches from step `first` on, and opens no picture before the first is asked
    for: a stage that is done already takes no time. Raises InputError for tar files and tables that
    are not there.
    """

    high: list[Path]
    low: list[Path]
    size: int
    config: TrainingConfig
    device: torch.device
    paired: tuple[Path, Path] | None = None
    divided: bool = True

    def __post_init__(self) -> None:
        split_sources([*self.high, *self.low])
        chosen = self.config.data
        for name in ("class_table", "score_table"):
            table = getattr(chosen, name)
            if table is not None and not Path(table).is_file():
                raise InputError(f"{name} is {table}, which is no file")

    def pictures(self, settings: LoopSettings, first: int) -> Iterator[PictureBatch]:
        """Crops of good and of bad pictures."""
        dataset = self.stream() if self.streamed else self.folder()
        for batch in self.batches(dataset, settings, first):
            yield PictureBatch(*batch)

    def pairs(self, settings: LoopSettings, first: int, good: bool = False) -> Iterator[PairBatch]:
        """The same with a low-quality picture for each; of good pictures alone if `good`."""
        if self.paired is not None:
            dataset = self.files(good)
        elif self.streamed:
            dataset = StreamPairs(self.stream(good))
        else:
            dataset = PairFolder(self.folder(good))
        for batch in self.batches(dataset, settings, first):
            yield PairBatch(*batch)

    def good_pairs(self, settings: LoopSettings, first: int) -> Iterator[PairBatch]:
        """Pairs of good pictures alone."""
        return self.pairs(settings, first, good=True)

    def classes(self, settings: LoopSettings, first: int) -> Iterator[ClassBatch]:
        """Good pictures and what they show: from the class table, or as tar files have it."""
        for batch in self.batches(self.labelled(), settings, first):
            yield ClassBatch(*batch)

    def undivided(self) -> TrainingData:
        """The same, with whole batches in every process."""
        return replace(self, divided=False)

    @property
    def streamed(self) -> bool:
        """Whether pictures come from tar files."""
        return bool(split_sources(self.high).shards or split_sources(self.low).shards)

    def labelled(self) -> StreamClasses:
        """Pictures with classes; `classes` of it is the null row."""
        chosen, damage = self.config.data, Damage(self.config.data.damaged)
        folders, shards = split_sources(self.high)
        sources = self._shards(shards, HIGH_QUALITY, damage)
        if chosen.class_table is not None:
            table = read_classes(Path(chosen.class_table), folders, chosen.num_classes)
            sources.append(
                ListedFiles(
                    list(table), HIGH_QUALITY, damage, name="table", labels=list(table.values())
                )
            )
        elif folders:
            raise InputError(
                f"{folders[0]} has no classes: name a table of them with --class-table, or "
                "tar files with KEY.cls"
            )
        pictures = self._stream(sources, negative_share=0.0)
        return StreamClasses(pictures, chosen.num_classes, chosen.class_dropout)

    def stream(self, good: bool = False) -> PictureStream:
        """Pictures of tar files and others, of which all processes take their turns."""
        damage, sources = Damage(self.config.data.damaged), []
        high, low = self._roles(good)
        for given, quality in ((high, HIGH_QUALITY), (low, LOW_QUALITY)):
            folders, shards = split_sources(given)
            sources += self._shards(shards, quality, damage)
            if folders:
                files = find_pictures(folders)
                sources.append(ListedFiles(files, quality, damage, name=f"files {quality}"))
        share = 0.0 if good or low else self.config.negative_share
        return self._stream(sources, share)

    def folder(self, good: bool = False) -> PictureFolder:
        """Pictures that this process reads; of the good ones alone if `good`."""
        rank, world_size = (0, 1) if self._shared else place()
        high, low = self._roles(good)
        return PictureFolder(
            high,
            low,
            self.size,
            negative_share=0.0 if good or low else self.config.negative_share,
            settings=self.config.degradation,
            zoom=self.config.zoom,
            cache=self.config.cache,
            rank=rank,
            world_size=world_size,
            crop=self._crop(),
        )

    def files(self, good: bool = False) -> PairedFolders:
        """Pairs of files that this process reads; with good targets alone if `good`."""
        assert self.paired is not None
        rank, world_size = (0, 1) if self._shared else place()
        return PairedFolders(
            *self.paired,
            self.size,
            negative_share=0.0 if good else self.config.negative_share,
            cache=self.config.cache,
            rank=rank,
            world_size=world_size,
        )

    @property
    def _shared(self) -> bool:
        """Whether folders are read in one order by all processes."""
        return self.config.data.order == "global" or not self.divided

    def batches(
        self, dataset: Any, settings: LoopSettings, first: int
    ) -> Iterator[tuple[Tensor, ...]]:
        ordered = isinstance(dataset, (PictureStream, StreamPairs, StreamClasses))
        size, share, config = settings.batch, None, self.config
        if ordered or self._shared:
            share = own_share(size) if self.divided else None
        elif self.divided:
            size = max(1, size // place()[1])
        for batch in batches(dataset, size, config.seed, first, config.workers, share, ordered):
            yield tuple(part.to(self.device) for part in batch)

    def _roles(self, good: bool) -> tuple[Sequence[str | Path], Sequence[str | Path]]:
        """Good and bad pictures, told apart by the table of scores where there is one."""
        chosen, high, low = self.config.data, self.high, [] if good else self.low
        if chosen.score_table is None:
            return high, low
        rated = read_scores(Path(chosen.score_table), [*self.high, *self.low], chosen.score_shares)
        (folders, shards), (low_folders, low_shards) = map(split_sources, (high, low))
        bad, fine = set(rated.bad), set(rated.good)
        better = [path for path in find_pictures(folders) if path not in bad]
        worse = set(find_pictures(low_folders)) - fine if low_folders else set()
        return [*shards, *better], [] if good else [*low_shards, *sorted(worse | bad)]

    def _crop(self) -> Crop:
        if self.config.data.crop == "public":
            return PublicCrop(self.size)
        turned = self.config.data.rotations
        return RandomCrop(self.size, rotations=turned, zoom=self.config.zoom)

    def _shards(self, paths: list[Path], quality: int, damage: Damage) -> list[Source]:
        if not paths:
            return []
        rank, processes = place()
        window, name = self.config.data.shuffle, f"shards {quality}"
        return [
            Shards(
                paths,
                quality,
                damage,
                window=window,
                name=name,
                rank=rank,
                world_size=processes,
            )
        ]

    def _stream(self, sources: list[Source], negative_share: float) -> PictureStream:
        return PictureStream(
            sources,
            self.size,
            self._crop(),
            negative_share=negative_share,
            settings=self.config.degradation,
        )
