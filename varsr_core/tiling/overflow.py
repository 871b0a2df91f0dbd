"""Whether what a model made are numbers: weights may be finite, and their products not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files.soundness import is_finite
from .grid import Canvases, TileIndex

REMEDY = (
    "the model overflows in the precision it was loaded in. Load it in fp32, or in bf16 instead "
    "of fp16; if that does not help, its file is damaged"
)


def nan_where_overflowed(latent: Tensor, logits: Tensor) -> Tensor:
    """The latents (N, C, S, S), NaN of each tile whose logits (N, ...) are not finite.

    A choice made of NaN is a code like any other, in which the fault would not show. This stays on
    the device; check_latents() finds it where latents are read anyway.
    """
    fine = logits.flatten(1).sum(dim=1).isfinite()  # one pass, faster than a look at each
    return torch.where(fine[:, None, None, None], latent, torch.nan)


def check_latents(latents: Tensor, numbers: Sequence[int], tiles: TileIndex, step: str) -> None:
    """Refuses tiles that are no numbers any more. Raises CheckpointError.

    latents: (len(numbers), C, S, S), on the CPU
    step:    that made them, in the user's words
    """
    if is_finite(latents):
        return
    for latent, number in zip(latents, numbers, strict=True):
        if not is_finite(latent):
            raise _overflowed(number, tiles, step)


def check_decoded(rgb: Canvases, tiles: TileIndex) -> None:
    """Refuses pictures that are no numbers. rgb: (3, grid height, grid width) of each."""
    for picture, grid in enumerate(tiles.grids):
        if is_finite(rgb[picture]):
            continue
        for index, number in enumerate(tiles.of(picture)):
            if not is_finite(rgb[picture][(..., *grid.area(index))]):
                raise _overflowed(number, tiles, "decode")


def _overflowed(number: int, tiles: TileIndex, step: str) -> CheckpointError:
    picture, index = tiles.locate(number)
    place = f"tile {index + 1} of {len(tiles.grids[picture])}"
    if len(tiles.grids) > 1:
        place += f", picture {picture + 1} of those restored together,"
    return CheckpointError(f"{place} has NaN or infinite values after {step!r}: {REMEDY}")
