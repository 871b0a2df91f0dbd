"""Whether what a model made are numbers: weights may be finite, and their products not."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files.soundness import is_finite
from ..runtime.casting import CastWeights
from .grid import Canvases, TileIndex

REMEDY = (
    "the model overflows in the precision it was loaded in. Load it in fp32, or in bf16 instead "
    "of fp16; if that does not help, its file is damaged"
)


logger = logging.getLogger(__name__)


def nan_where_overflowed(latent: Tensor, logits: Tensor) -> Tensor:
    """The latents (N, C, S, S), NaN of each tile whose logits (N, ...) are not finite.

    A choice made of NaN is a code like any other, in which the fault would not show. This stays on
    the device; a Record finds it when a block of tiles is done.
    """
    return torch.where(are_finite(logits)[:, None, None, None], latent, torch.nan)


def are_finite(values: Tensor) -> Tensor:
    """Of each of (N, ...), whether all are numbers: (N,) bool on the same device."""
    return values.flatten(1).sum(dim=1).isfinite()  # one pass, faster than a look at each


def unsound(tensors: Sequence[Tensor]) -> list[int]:
    """Which tiles are no numbers any more, of (N, ...) each, on the CPU."""
    bad = [[not is_finite(tile) for tile in one] for one in tensors if not is_finite(one)]
    return [tile for tile, found in enumerate(zip(*bad, strict=True)) if any(found)]


@contextmanager
def again() -> Iterator[None]:
    """While work on tiles that overflowed in float16 is done once more, in a wider dtype."""
    _tell_once()
    with CastWeights():
        yield


@cache
def _tell_once() -> None:
    logger.warning(
        "The model overflows in fp16. Each tile where it does is made once more in bf16, or fp32 "
        "where the device has no bf16; that takes its time again. If these are many, load the "
        "model in bf16"
    )


def check_latents(latents: Tensor, numbers: Sequence[int], tiles: TileIndex, step: str) -> None:
    """Refuses tiles that are no numbers any more. Raises CheckpointError.

    latents: (len(numbers), C, S, S)
    step:    that made them, in the user's words
    """
    for number, fine in zip(numbers, are_finite(latents).cpu().tolist(), strict=True):
        if not fine:
            raise overflowed(number, tiles, step)


def check_decoded(rgb: Canvases, tiles: TileIndex) -> None:
    """Refuses pictures that are no numbers. rgb: (3, grid height, grid width) of each."""
    for picture, grid in enumerate(tiles.grids):
        if is_finite(rgb[picture]):
            continue
        for index, number in enumerate(tiles.of(picture)):
            if not is_finite(rgb[picture][(..., *grid.area(index))]):
                raise overflowed(number, tiles, "decode")


def overflowed(number: int, tiles: TileIndex, step: str) -> CheckpointError:
    """What tells of a tile that is no number any more, behind a step, in the user's words."""
    picture, index = tiles.locate(number)
    place = f"tile {index + 1} of {len(tiles.grids[picture])}"
    if len(tiles.grids) > 1:
        place += f", picture {picture + 1} of those restored together,"
    return CheckpointError(f"{place} has NaN or infinite values after '{step}': {REMEDY}")
