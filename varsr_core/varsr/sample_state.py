"""Everything of some tiles between two scales of VARSR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..nn.kv_cache import KVCache
from ..runtime.transfer import brought
from ..tiling.noise import TileSeed
from ..tiling.tile_work import KeepsLatents


@dataclass
class SampleState(KeepsLatents):
    """Everything between two scales.

    prefix:    (N, S * S, D)
    classes:   (rows,) quality class of each row: N positive, then, while guided, N negative
    guided_scales: how many first scales run with negative rows; then they are dropped
    seeds:     one per tile
    latents:   (N, C, S, S) float32 after each step, behind the empty one that starts
    hidden:    (rows, side * side, D) of the scale before, at the last scale the refiner's input
    token_ids: of each scale so far
    modulation: of all blocks for these rows, see Transformer.modulation
    noise:     what the refiner will need, drawn while the scales run; None if nobody has begun to
    coarse:    ids of first scales that are not sampled, (N, side * side) each
    priors:    by scale, of the last two at most: logits that the next one is moved away from,
               (N, side * side, V); none where `ssg` is 0
    """

    prefix: Tensor
    classes: Tensor
    guided_scales: int
    cache: KVCache
    seeds: Sequence[TileSeed]
    latents: list[Tensor]
    hidden: Tensor
    modulation: Tensor
    token_ids: list[Tensor] = field(default_factory=list)
    noise: Callable[[], Tensor] | None = None
    coarse: list[Tensor] = field(default_factory=list)
    priors: dict[int, Tensor] = field(default_factory=dict)

    @property
    def tiles(self) -> int:
        return self.prefix.shape[0]

    @property
    def guided(self) -> bool:
        return len(self.classes) > self.tiles

    @property
    def nbytes(self) -> int:
        held = [self.prefix, *self.latents, *self.token_ids, self.hidden, self.modulation]
        held += self.priors.values()
        return self.cache.nbytes + sum(tensor.nbytes for tensor in held)

    def rewind(self, k: int) -> None:
        """Forgets whatever step k, a scale or the refiner, has left behind before it failed."""
        seen = sum(ids.shape[1] for ids in self.token_ids[:k])
        self.cache.rewind(self.prefix.shape[1] + seen if k else 0)
        del self.latents[k + 1 :], self.token_ids[k:]
        self.priors.pop(k, None)

    def drop_negative(self) -> None:
        """Goes on with the positive rows alone. There is no way back, and none is needed: a step
        that is done again after a failure does not need them either."""
        self.classes, self.cache = self.classes[: self.tiles], self.cache.first(self.tiles)
        self.modulation = self.modulation[:, : self.tiles]

    def select(self, tiles: slice) -> SampleState:
        """A state of some of the tiles, which shares no memory with this one."""
        numbers = torch.arange(self.tiles, device=self.prefix.device)[tiles]
        rows = torch.cat((numbers, numbers + self.tiles)) if self.guided else numbers
        return replace(
            self,
            prefix=self.prefix[numbers],
            classes=self.classes[rows],
            cache=self.cache.select(rows),
            seeds=self.seeds[tiles],
            latents=[latent[numbers] for latent in self.latents],
            token_ids=[ids[numbers] for ids in self.token_ids],
            hidden=self.hidden[rows],
            modulation=self.modulation[:, rows],
            noise=None,
            coarse=[ids[numbers] for ids in self.coarse],
            priors={scale: logits[numbers] for scale, logits in self.priors.items()},
        )

    def to(self, device: torch.device) -> SampleState:
        """The same elsewhere. Behind the last scale comes the refiner, which needs no cache."""
        full = self.cache.length == self.cache.capacity
        return replace(
            self,
            prefix=brought(self.prefix, device),
            classes=brought(self.classes, device),
            cache=self.cache.emptied() if full else self.cache.to(device),
            latents=[brought(latent, device) for latent in self.latents],
            token_ids=[brought(ids, device) for ids in self.token_ids],
            hidden=brought(self.hidden, device),
            modulation=brought(self.modulation, device),
            coarse=[brought(ids, device) for ids in self.coarse],
            priors={scale: brought(logits, device) for scale, logits in self.priors.items()},
        )
