"""Keys and values of everything seen so far, allocated once and passed in."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Preallocated keys and values of all layers.

    Each layer appends, then the network advances once for all layers. An exception in between
    leaves nothing behind but this object.
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
    ) -> None:
        shape = (2, layers, rows, heads, tokens, head_dim)
        self.storage = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.storage.shape[4]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes (R, H, L, head_dim) behind what `layer` holds; returns views of all of it."""
        end = self.length + keys.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens; {end} were appended")
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
        return self._with(self.storage.index_select(2, rows))

    def first(self, rows: int) -> KVCache:
        """The first rows, in place: what the others hold is given up only with this cache."""
        return self._with(self.storage[:, :, :rows])

    def to(self, device: torch.device) -> KVCache:
        return self._with(self.storage.to(device))

    def rewind(self, tokens: int) -> None:
        """Forgets all but the first `tokens` tokens."""
        self.length = min(self.length, tokens)

    def _with(self, storage: Tensor) -> KVCache:
        other = KVCache.__new__(KVCache)
        other.storage, other.length = storage, self.length
        return other
