"""Keys and values of everything seen so far, allocated once and passed in."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Allocate = Callable[[Sequence[int], torch.dtype, torch.device], tuple[Tensor, object]]
"""Memory of a shape, with any numbers in it, and what its users keep as long as they use it."""


def allocate(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, object]:
    """An Allocate: memory that nobody else has."""
    return torch.empty(shape, dtype=dtype, device=device), None


class KVCache:
    """Preallocated keys and values of all layers.

    Each layer appends, then the network advances once for all layers. An exception in between
    leaves nothing behind but this object.

    storage:  (2, layers, R, H, tokens, head_dim); while it waits in system memory, of no more
              tokens than it holds
    length:   tokens seen by now
    capacity: tokens of a whole run
    """

    def __init__(
        self,
        layers: int,
        rows: int,
        heads: int,
        tokens: int,
        head_dim: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        allocate: Allocate = allocate,
    ) -> None:
        """allocate: where its memory comes from, now and when it comes back to a device"""
        self.length, self.capacity, self._allocate = 0, tokens, allocate
        self._take((2, layers, rows, heads, tokens, head_dim), dtype, device)

    def _take(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        self.storage, self._in_use = self._allocate(shape, dtype, device)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes (R, H, L, head_dim) behind what `layer` holds; returns views of all of it."""
        end = self.length + keys.shape[2]
        room = self.storage.shape[4]
        if end > room:
            raise ValueError(f"the cache holds {room} tokens; {end} were appended")
        stored_keys, stored_values = self.storage[:, layer].unbind(0)
        stored_keys[:, :, self.length : end] = keys
        stored_values[:, :, self.length : end] = values
        return stored_keys[:, :, :end], stored_values[:, :, :end]

    def joined(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """As append(), but a copy of which nothing is kept: for tokens nothing looks back at."""
        stored = self.storage[:, layer, :, :, : self.length]
        return torch.cat((stored[0], keys), dim=2), torch.cat((stored[1], values), dim=2)

    def advance(self, tokens: int) -> None:
        """Marks `tokens` more tokens as seen, once every layer has appended them."""
        self.length += tokens

    @property
    def nbytes(self) -> int:
        return self.storage.nbytes

    def select(self, rows: Tensor) -> KVCache:
        """A copy of some rows; rows: (R,) int64 on the cache's device."""
        return self._copy(self.storage.device, self.storage.shape[4], rows)

    def first(self, rows: int) -> KVCache:
        """The first rows, in place: what the others hold is given up only with this cache."""
        other = copy.copy(self)
        other.storage = self.storage[:, :, :rows]
        return other

    def to(self, device: torch.device) -> KVCache:
        """The same elsewhere. Only what it holds is moved, and in system memory, where caches
        wait, takes room."""
        device = torch.empty(0, device=device).device  # with its number
        if device == self.storage.device:
            return self
        return self._copy(device, self.length if device.type == "cpu" else self.capacity)

    def emptied(self) -> KVCache:
        """Without memory, and with no room for any token: for when nothing looks back any more."""
        other = copy.copy(self)
        other.length = other.capacity = 0
        other.storage, other._in_use = self.storage[..., :0, :].clone(), None
        other._allocate = allocate
        return other

    def _copy(self, device: torch.device, tokens: int, rows: Tensor | None = None) -> KVCache:
        """With room for so many tokens."""
        other, held = copy.copy(self), self.storage[..., : self.length, :]
        two, layers, count, heads, _, head_dim = self.storage.shape
        count = count if rows is None else len(rows)
        other._take((two, layers, count, heads, tokens, head_dim), self.storage.dtype, device)
        for layer in range(layers):  # one by one: on the way a copy lies whole on the card
            part = held[:, layer] if rows is None else held[:, layer].index_select(1, rows)
            other.storage[:, layer, :, :, : self.length] = part
        return other

    def rewind(self, tokens: int) -> None:
        """Forgets all but the first `tokens` tokens."""
        self.length = min(self.length, tokens)
