"""How much a tile weighs at each of its cells, beside the tiles that overlap it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from ..runtime.transfer import brought

Profile = Literal["blend", "given", "handover"]
"""blend:    finished tiles cross-fade over their whole overlap; the weights sum to 1 everywhere
given:    how firmly a finished tile stands against a later one: 1, less towards its inner borders
handover: of tiles that run side by side: nearly 0 up to the middle of the overlap, then 1
"""

# "given" and "handover" fade over this fraction of an overlap. Elsewhere in it one tile alone
# counts: the average of two different pictures would be a blur.
FADING = 0.25
LEAST = 1e-6  # not 0: where the other tile is left out, this one is all there is


@lru_cache(maxsize=64)
def axis_windows(
    starts: tuple[int, ...], tile: int, profile: Profile, device: torch.device
) -> Tensor:
    """Weights of all tiles along one axis: (tiles, tile) float32, above 0 and at most 1.

    Kept, so that each comes to a device once, and not to be changed.

    starts: first cells of the tiles along this axis
    """
    windows = [_axis_window(starts, number, tile, profile) for number in range(len(starts))]
    return brought(torch.stack(windows), device)


def _axis_window(starts: tuple[int, ...], number: int, tile: int, profile: Profile) -> Tensor:
    window = _rise_and_fall(starts, number, tile, profile)
    if profile != "blend":
        return window
    # Rounding lets a third tile reach into an overlap here and there.
    start, total = starts[number], torch.zeros_like(window)
    for other, first in enumerate(starts):
        if abs(first - start) < tile:
            own, theirs = common(start, first, tile)
            total[own] += _rise_and_fall(starts, other, tile, profile)[theirs]
    return window / total


def common(start: int, other: int, tile: int) -> tuple[slice, slice]:
    """The cells that two tiles share along one axis, counted from the start of each."""
    first, end = max(start, other), min(start, other) + tile
    return slice(first - start, end - start), slice(first - other, end - other)


def _rise_and_fall(starts: Sequence[int], number: int, tile: int, profile: Profile) -> Tensor:
    before = starts[number - 1] + tile - starts[number] if number > 0 else 0
    last = number == len(starts) - 1
    behind = 0 if last else starts[number] + tile - starts[number + 1]
    return _rise(tile, before, profile) * _rise(tile, behind, profile).flip(0)


def _rise(tile: int, overlap: int, profile: Profile) -> Tensor:
    """(tile,): up to 1 by a raised cosine, which sums to 1 with the fall that it meets."""
    low, fade = _lengths(overlap, profile)
    ramp = (1 - torch.cos((torch.arange(fade) + 0.5) / max(fade, 1) * math.pi)) / 2
    return torch.cat((torch.full((low,), LEAST), ramp, torch.ones(tile - low - fade)))


def _lengths(overlap: int, profile: Profile) -> tuple[int, int]:
    """How many cells of an overlap a tile hardly counts in, and over how many it then rises."""
    if profile == "blend":
        return 0, overlap
    # Two cells where there is room: the outermost one of a tile was made beside nothing, comes out
    # a little off, and is not to count for much.
    fade = max(math.ceil(overlap * FADING), min(overlap // 2, 2))
    if profile == "given":
        return 0, fade
    fade += (overlap - fade) % 2  # so that the fall of one tile meets the rise of the other
    return (overlap - fade) // 2, fade
