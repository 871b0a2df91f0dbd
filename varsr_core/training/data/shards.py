"""Pictures in tar files, read at the places that an index names.

Nothing of a tar file stays in memory but the indices of a few that were read last.
"""

from __future__ import annotations

import io
import logging
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...errors import InputError
from .damage import Damage
from .item import Item
from .order import ShuffledShards
from .pictures import decode_picture
from .shard_index import (
    NO_MEMBER,
    Summary,
    index_shard,
    read_rows,
    read_summary,
    shown,
    write_index,
)

logger = logging.getLogger(__name__)

KEPT_ROWS = 500_000  # samples whose places stay in memory, 26 MB; a window reaches over a few files


class Shards:
    """The samples of tar files, in an order that depends on (seed, epoch) alone.

    Makes the indices that are not there, which takes a pass over the headers of each tar file.

    quality:   class of the pictures, where they have none of their own
    window:    samples among which a sample is shuffled
    name:      tells the order of these tar files from that of others
    rank, world_size: processes that make the indices together begin at different files
    """

    def __init__(
        self,
        paths: Sequence[Path],
        quality: int,
        damage: Damage,
        *,
        window: int,
        name: str,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.paths, self.quality, self.damage = list(paths), quality, damage
        self.kept: dict[int, np.ndarray] = {}  # of folders that cannot be written to
        self.read: OrderedDict[int, np.ndarray] = OrderedDict()
        summaries: dict[int, Summary] = {}
        begin = rank * len(paths) // world_size
        for shard in (*range(begin, len(paths)), *range(begin)):
            summaries[shard] = read_summary(paths[shard]) or self._index(shard)
        self.summaries = [summaries[shard] for shard in range(len(paths))]
        counts = [summary.samples for summary in self.summaries]
        self.order = ShuffledShards(counts, window, name)
        logger.info("%d pictures in %d tar files", self.order.total, len(paths))

    def _index(self, shard: int) -> Summary:
        path = self.paths[shard]
        logger.info("%s: looking for its pictures", path)
        index = index_shard(path)
        for fault in index.faults:
            logger.warning("%s", fault)
        try:
            write_index(path, index)
        except OSError as error:
            self.kept[shard] = index.rows
            logger.warning(
                "the index of %s stays in memory, and is made anew by each run: %s", path, error
            )
        return index.summary

    def __len__(self) -> int:
        return self.order.total

    @property
    def classes(self) -> int:
        """1 more than the highest class. Raises InputError where pictures have none."""
        for path, summary in zip(self.paths, self.summaries, strict=True):
            if summary.unlabelled:
                raise InputError(
                    f"{summary.unlabelled} of {summary.samples} pictures in {path} have no class: "
                    'expected is a number in KEY.cls, or {"class": number} in KEY.json, beside it'
                )
        return max(summary.classes for summary in self.summaries)

    def items(self, seed: int, epoch: int, position: int) -> Iterator[Item]:
        """The sample at a place of an epoch; then those after it in its tar file."""
        shard, first = self.order(seed, epoch, position)
        rows = self._rows(shard)
        for step in range(len(rows)):
            row = rows[(first + step) % len(rows)]
            low = None
            if row["low_offset"] != NO_MEMBER:
                low = self._picture(shard, row["low_start"], row["low_offset"], row["low_size"])
                if low is None:
                    continue
            pixels = self._picture(shard, row["start"], row["offset"], row["size"])
            if pixels is not None:
                yield Item(pixels, low, self.quality, int(row["label"]))

    def _rows(self, shard: int) -> np.ndarray:
        if shard in self.kept:
            return self.kept[shard]
        if shard not in self.read:
            rows = read_rows(self.paths[shard])
            if rows is None or len(rows) != self.summaries[shard].samples:
                raise InputError(
                    f"{self.paths[shard]} or its index changed while it was read; start again"
                )
            self.read[shard] = rows
            while len(self.read) > 1 and sum(map(len, self.read.values())) > KEPT_ROWS:
                self.read.popitem(last=False)
        self.read.move_to_end(shard)
        return self.read[shard]

    def _picture(self, shard: int, start: int, offset: int, size: int) -> np.ndarray | None:
        """Pixels of a member, or None for a damaged one, which is told of."""
        path = self.paths[shard]
        place = f"{path}: {start}"
        if self.damage.has(place):
            return None
        try:
            with path.open("rb") as file:
                file.seek(int(offset))
                return decode_picture(io.BytesIO(file.read(int(size))))
        except Exception as error:  # Pillow raises nearly anything on a damaged file
            self.damage.tell(place, error, f"{path}: {_name(path, int(start))}")
            return None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "read": OrderedDict()}  # workers read their own


def _name(path: Path, start: int) -> str:
    """Of the member whose header begins there."""
    with path.open("rb") as file:
        file.seek(start)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                member = tar.next()
        except tarfile.TarError:
            member = None
    return f"byte {start}" if member is None else shown(member.name)
