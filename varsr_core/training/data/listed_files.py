"""Picture files of a list, in an order of their own for each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import InputError
from .damage import Damage
from .item import Item
from .order import ShuffledFiles
from .pictures import load_picture
from .shard_index import NO_CLASS


class ListedFiles:
    """Opens no file before its turn: those that cannot be read are told of then, and passed over.

    quality: class of the pictures
    labels:  classes of what they show, one for each
    name:    tells the order of these files from that of others
    """

    def __init__(
        self,
        paths: Sequence[Path],
        quality: int,
        damage: Damage,
        *,
        name: str,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.paths, self.quality, self.damage, self.labels = list(paths), quality, damage, labels
        self.order = ShuffledFiles(len(self.paths), name)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def classes(self) -> int:
        if self.labels is None:
            raise InputError(
                f"{len(self)} pictures, the first is {self.paths[0]}, have no class; name a table "
                "of them with --class-table"
            )
        return max(self.labels) + 1

    def items(self, seed: int, epoch: int, position: int) -> Iterator[Item]:
        for step in range(len(self)):
            index = self.order(seed, epoch, (position + step) % len(self))
            path = self.paths[index]
            if self.damage.has(str(path)):
                continue
            try:
                pixels = load_picture(path)
            except Exception as error:  # Pillow raises nearly anything on a damaged file
                self.damage.tell(str(path), error)
                continue
            label = NO_CLASS if self.labels is None else self.labels[index]
            yield Item(pixels, None, self.quality, label)
