"""What tiles made at every step, for their neighbours and for whoever wants it in the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..runtime.transfer import CPU
from .overflow import are_finite

# Bytes that may stay on a card: of some 190 tiles of 512 pixels.
KEPT_THERE = 2**28


class Record:
    """Latents (C, S, S) float32 of tiles, where they were made: nobody waits to bring them away,
    and neighbours find them. More than KEPT_THERE lie in system memory.

    made: of every step, by the numbers of the tiles
    """

    def __init__(self, tiles: int, steps: int) -> None:
        """tiles: of all pictures"""
        self.tiles = tiles
        self.made: list[dict[int, Tensor]] = [{} for _ in range(steps)]

    def add(self, first: int, numbers: Sequence[int], latents: Tensor) -> list[tuple[int, int]]:
        """Waits for a card, once.

        latents: (steps, len(numbers), C, S, S), from step `first` on
        returns  tiles that are no numbers any more, by number, and the step that showed it first
        """
        fine = are_finite(latents.flatten(0, 1)).unflatten(0, latents.shape[:2]).cpu()
        if latents[0, 0].nbytes * self.tiles * len(self.made) > KEPT_THERE:
            latents = latents.to(CPU)
        for made, latent in zip(self.made[first:], latents, strict=False):
            made.update(zip(numbers, latent, strict=True))
        return [
            (number, first + flags.index(False))
            for number, flags in zip(numbers, fine.T.tolist(), strict=True)
            if False in flags
        ]

    def taken(self) -> list[Tensor]:
        """Per step (tiles of all pictures, C, S, S), zeros where there is nothing; once."""
        found, numbers = [], range(self.tiles)
        none = torch.zeros_like(next(iter(self.made[0].values())))
        while self.made:
            made = self.made.pop(0)
            found.append(torch.stack([made.get(number, none) for number in numbers]))
        return found
