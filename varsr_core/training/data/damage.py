"""Pictures that cannot be read: each is told once, and too many of them end the run."""

from __future__ import annotations

import logging

import torch

from ...errors import InputError
from ...tiling.noise import derive_seed

logger = logging.getLogger(__name__)

EMPTY = -1


class Damage:
    """What was found damaged, by all workers of this process: they share the memory of it.

    limit: that many may be damaged
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found = torch.full((limit,), EMPTY, dtype=torch.int64).share_memory_()

    def has(self, name: str) -> bool:
        """Whether it was told of already."""
        return bool((self.found == _code(name)).any())

    def tell(self, name: str, error: object, shown: str | None = None) -> None:
        """Logs a new one, `shown` in place of its name; raises InputError beyond the limit."""
        if self.has(name):
            return
        empty = (self.found == EMPTY).nonzero()
        if not len(empty):
            raise InputError(
                f"{shown or name} is damaged ({error}), and {self.limit} others were: as many as "
                "the setting `damaged` of the data allows. Mend the files, or allow more."
            )
        self.found[empty[0]] = _code(name)
        logger.warning("%s cannot be read and is passed over: %s", shown or name, error)


def _code(name: str) -> int:
    return derive_seed(0, name) >> 1
