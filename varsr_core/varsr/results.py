"""What passes between the stages: a picture before the first token, and one made of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..tiling.canvas import Canvas


@dataclass(frozen=True)
class Prefix:
    """Low-quality tiles as the transformer sees them, the same for every guidance and seed.

    tokens:      (N, S * S, D), without the class token
    canvas:      what the tiles are part of
    fingerprint: of the weights that made it
    """

    tokens: Tensor
    canvas: Canvas
    fingerprint: str


@dataclass(frozen=True)
class TokenPyramid:
    """Token maps from coarse to fine, and all it takes to decode, refine or resume.

    token_ids: per scale (N, side * side) int64; may stop before the last scale
    latents:   after each of these scales (N, C, S, S) float32
    hidden:    (N, rows, S * S, D) of the last scale before the head, rows 2 when sampled with
               guidance (positive, negative), else 1; None when encoded or stopped early
    refined:   (N, C, S, S) the last latent with the refiner's residual, or None
    """

    token_ids: tuple[Tensor, ...]
    latents: tuple[Tensor, ...]
    canvas: Canvas
    fingerprint: str
    hidden: Tensor | None = None
    refined: Tensor | None = None

    @property
    def num_scales(self) -> int:
        """How many scales are there."""
        return len(self.token_ids)

    @property
    def latent(self) -> Tensor:
        """The picture so far: (N, C, S, S)."""
        return self.latents[-1] if self.refined is None else self.refined

    def tiles(self, part: slice) -> TokenPyramid:
        """The same for some of the tiles."""
        return self._map(lambda tensor: tensor[part])

    def to(self, device: torch.device) -> TokenPyramid:
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> TokenPyramid:
        return replace(
            self,
            token_ids=tuple(map(change, self.token_ids)),
            latents=tuple(map(change, self.latents)),
            hidden=None if self.hidden is None else change(self.hidden),
            refined=None if self.refined is None else change(self.refined),
        )

    @staticmethod
    def concatenate(parts: Sequence[TokenPyramid]) -> TokenPyramid:
        """Pyramids of consecutive tiles as one."""

        def join(tensors: Sequence[Tensor | None]) -> Tensor | None:
            there = [tensor for tensor in tensors if tensor is not None]
            return torch.cat(there) if there else None

        return replace(
            parts[0],
            token_ids=tuple(map(torch.cat, zip(*(p.token_ids for p in parts), strict=True))),
            latents=tuple(map(torch.cat, zip(*(p.latents for p in parts), strict=True))),
            hidden=join([p.hidden for p in parts]),
            refined=join([p.refined for p in parts]),
        )
