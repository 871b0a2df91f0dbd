"""A picture in, a restored and larger picture out, with any family of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from .canvas import check_pixels, resize, split_image
from .color_fix import ColorMode, check_mode, match_colors
from .execution import Execution, ReportFn, run_in_blocks
from .noise import tile_seeds


class LatentState(Protocol):
    """Tiles on their way; `latent` may be read and replaced between steps."""

    latent: Tensor


State = TypeVar("State", bound=LatentState)


class Restorer(Protocol[State]):
    """A model family as `upscale()` sees it."""

    @property
    def tile_size(self) -> int:
        """Side of the tiles it restores, in pixels."""

    @property
    def overlap(self) -> int:
        """Least overlap of neighbouring tiles, in pixels."""

    @property
    def align(self) -> int:
        """Pixels per token: tiles start at multiples of it."""

    @property
    def steps(self) -> int:
        """How many steps one tile takes: each scale, and the refiner where there is one."""

    def describe(self, k: int) -> str:
        """What step k does, in the user's words."""

    def start(self, lq: Tensor, seeds: Sequence[int]) -> State:
        """lq: (N, 3, tile_size, tile_size) in [0, 1], already enlarged; one seed per tile."""

    def step(self, state: State, k: int) -> None:
        """One scale, or the refiner."""

    def decode(self, latent: Tensor) -> Tensor:
        """(N, C, S, S) -> (N, 3, tile_size, tile_size) in [0, 1]."""


@torch.inference_mode()
def upscale(
    image: Tensor,
    scale: float,
    restorer: Restorer,
    *,
    seed: int = 0,
    color_fix: ColorMode = "adain",
    execution: Execution | None = None,
) -> Tensor:
    """Restores and enlarges pictures.

    image:     (B, C, H, W) in [0, 1]; C 1 is repeated to RGB, the alpha of 4 is enlarged apart
    scale:     output size divided by input size
    seed:      the same seed gives the same picture, whatever the batch; 0 to 2**64 - 1
    color_fix: how colours are matched to the input, over the whole picture
    returns    (B, 3 or 4, H * scale, W * scale) float32 in [0, 1], on the device of `image`
    Raises InputError before any work for what cannot be restored.
    """
    check_mode(color_fix)
    execution = execution or Execution()
    tiles, canvas = split_image(
        image, scale, restorer.tile_size, overlap=restorer.overlap, align=restorer.align
    )
    seeds = tile_seeds(seed, canvas.images, len(canvas.grid))

    def run(part: slice, report: ReportFn) -> Tensor:
        state = restorer.start(tiles[part].to(execution.device), seeds[part])
        for k in range(restorer.steps):
            restorer.step(state, k)
            report(k + 1, restorer.describe(k), state.latent)
        restored = restorer.decode(state.latent)
        report(restorer.steps + 1, "decode", None)
        return restored.to(tiles.device)

    restored = torch.cat(run_in_blocks(len(tiles), restorer.steps + 1, run, execution))
    return match_image_colors(canvas.join(restored), image, color_fix)


def match_image_colors(
    image: Tensor, reference: Tensor, mode: ColorMode, strength: float = 1.0
) -> Tensor:
    """`match_colors` for pictures with alpha or grey, and a reference of another size.

    image, reference: (B, C, H, W); alpha of `image` passes through, that of `reference` is ignored
    Raises InputError for what is no picture.
    """
    check_pixels(image, "image")
    check_pixels(reference, "reference")
    rgb, alpha = image[:, :3], image[:, 3:]
    reference = resize(reference, *image.shape[2:])[:, :3].expand(-1, 3, -1, -1)
    return torch.cat((match_colors(rgb, reference, mode, strength), alpha), dim=1)
