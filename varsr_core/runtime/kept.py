"""Memory that is kept between runs for speed alone: counted, and given up when it runs short."""

from __future__ import annotations

import weakref
from typing import Protocol

import torch


class Keeper(Protocol):
    def kept_bytes(self, device: torch.device) -> int:
        """Of a device, what the next run need not find free."""
        ...

    def forget(self) -> None:
        """Gives it up; what is in use goes with its last user."""


_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def keeps(keeper: Keeper) -> None:
    """From now on, as long as it lives, it is asked."""
    _keepers.add(keeper)


def kept_bytes(device: torch.device) -> int:
    """Of all models: a run that needs more than what is left makes them give it up."""
    if not _keepers:
        return 0
    place = torch.empty(0, device=device).device  # with its number
    return sum(keeper.kept_bytes(place) for keeper in list(_keepers))


def give_up() -> None:
    for keeper in list(_keepers):
        keeper.forget()
