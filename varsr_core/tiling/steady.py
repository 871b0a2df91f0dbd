"""How the frames of a film come to show one picture: after every step a frame's latents are brought
towards those of the frame before it, wherever the picture is still.

Tiles agree in space by the same means; see `consistency.py`. What a still cell shows is so the mean
over the last frames, of which noise makes no two alike: the mean over all since it was still, up to
`frames_of(steady)`, then one that forgets. What a frame is compared with is the same mean of the
low-quality frames, so that what changes slowly, as in a fade, shows as soon as it is more than
noise: a latent is never of another picture than the one it is taken for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..images.stillness import Noise, is_cut, noise_between, stillness
from ..runtime.transfer import CPU, brought
from .canvas import Canvas
from .grid import TileGrid, TileIndex
from .record import KEPT_THERE

LEAST_PIXELS = 4  # along a block: fewer do not tell noise from change
# Frames that a still cell is the mean of, and that a part begins with, at steady 1. Means of more
# frames flicker hardly less.
MOST_FRAMES, RUN_IN = 4, 18

Latents = dict[int, dict[int, Tensor]]
"""Of each step, (C, S, S) by the numbers of tiles."""


def check_steady(steady: float) -> None:
    """Raises InputError."""
    if not 0 <= steady <= 1:
        raise InputError(f"steady is {steady}; 0 for off, to 1, is expected")


def frames_of(steady: float) -> float:
    """How many frames a still cell is the mean of: 1 at 0, MOST_FRAMES at 1."""
    return 1 + (MOST_FRAMES - 1) * steady


def run_in_frames(steady: float) -> int:
    """How many frames before it a part of a film begins with, to be thrown away.

    Then it is nearer to the whole film than two frames of that are to each other, as measured by
    `tools/benchmarks steady`: more than a mean needs, since a scale goes on from what scales before
    it have left of earlier frames.
    """
    return ceil(RUN_IN * steady)


@dataclass(frozen=True)
class Before:
    """What the tiles of a frame take over from the frame before.

    latents: of each step, (C, S, S) by the numbers of the tiles that were made
    stays:   (tiles, 1, S, S) how much of them stays, 0 to below 1; 0 for tiles that were not
    """

    latents: Latents
    stays: Tensor

    def over(self, latent: Tensor, numbers: Sequence[int], step: int) -> Tensor:
        """Tiles (N, C, S, S) after a step, with what stays of the frame before."""
        earlier, none = self.latents[step], torch.zeros_like(latent[0])
        before = torch.stack([earlier.get(number, none).to(none) for number in numbers])
        stays = brought(self.stays[list(numbers)], latent.device)
        return torch.where(stays > 0, torch.lerp(latent, before, stays), latent)


class Frame:
    """One frame on its way: told of what every step makes of its tiles, gives what they become.

    Kept for the next frame is what a tile was before its neighbours had a say, who are asked anew.
    """

    def __init__(self, before: Before | None, tiles: int) -> None:
        """tiles: of the frame"""
        self.before, self.tiles = before, tiles
        self.latents: Latents = {}

    def over(self, latent: Tensor, numbers: Sequence[int], step: int) -> Tensor:
        """Tiles (N, C, S, S) after a step, with what stays of the frame before."""
        if self.before is not None:
            latent = self.before.over(latent, numbers, step)
        many = latent[0].nbytes * self.tiles * (step + 1) > KEPT_THERE
        kept = latent.to(CPU) if many else latent
        self.latents.setdefault(step, {}).update(zip(numbers, kept, strict=True))
        return latent


@dataclass
class _Seen:
    """What is known of a film after a frame.

    frame:     (3, h, w) the low-quality frame, a whole number of blocks
    reference: (3, h, w) what the latents are of: the mean of frames, block by block
    count:     (h, w) in blocks, how many frames that is the mean of; may be a fraction
    share:     (h, w) in blocks, the variance of its noise in units of a frame's
    noise:     as the last two frames have it, or None after the first
    """

    frame: Tensor
    reference: Tensor
    count: Tensor
    share: Tensor
    noise: Noise | None = None


class Clip:
    """What the frames of one film leave for the one that follows them.

    The caller keeps it as long as frames follow each other, and hands it to every call of
    `upscale()`; its size does not depend on how many there were. After a call that failed it is not
    to be used again.
    """

    def __init__(self) -> None:
        self._seen: _Seen | None = None
        self._grid: TileGrid | None = None
        self._latents: Latents = {}

    def begin(self, canvas: Canvas, given: Tensor, steady: float) -> Frame:
        """Looks at the next frame, (1, C, h, w). Where a scene begins, it takes over nothing."""
        if canvas.grid != self._grid:
            self._seen = None
        self._grid, cells = canvas.grid, canvas.grid.cells()
        frame, pixels, of_block = _in_blocks(canvas, given)
        stays = self._look(frame, pixels, frames_of(steady))
        before = None
        if stays is not None and stays.any():
            stays = F.interpolate(stays[None, None], scale_factor=of_block, mode="nearest")
            tiles = TileIndex([cells]).crop(stays, range(len(cells)))
            made = torch.tensor([number in self._latents[0] for number in range(len(cells))])
            before = Before(self._latents, tiles * made[:, None, None, None])
        self._latents = {}
        return Frame(before, len(cells))

    def end(self, frame: Frame) -> None:
        """The frame that was begun is made."""
        self._latents = frame.latents

    def _look(self, frame: Tensor, block: int, most: float) -> Tensor | None:
        """How much stays of the frame before, (h, w) in blocks; None where a scene begins.

        block: pixels along one; most: frames that a still one is the mean of
        """
        seen, ones = self._seen, frame.new_ones(*(side // block for side in frame.shape[1:]))
        if seen is None or seen.frame.shape != frame.shape:
            self._seen = _Seen(frame, frame, ones, ones)
            return None
        between = noise_between(frame, seen.frame, block)
        noise = between.least(seen.noise)
        still = stillness(frame, seen.reference, noise, seen.share, block)
        if is_cut(still, (frame, seen.frame), noise, block):
            self._seen = _Seen(frame, frame, ones, ones)
            return None
        count = 1 + still * seen.count.clamp(max=most - 1)
        stays = 1 - 1 / count
        share = (1 - stays).square() + stays.square() * seen.share
        wide = F.interpolate(stays[None, None], scale_factor=block, mode="nearest")[0, 0]
        reference = torch.lerp(frame, seen.reference, wide)
        self._seen = _Seen(frame, reference, count, share, between)
        return stays


def _in_blocks(canvas: Canvas, given: Tensor) -> tuple[Tensor, int, int]:
    """A frame (1, C, h, w) on the grid of the canvas, with about as many pixels as it has itself
    and no more: what is enlarged has no noise from pixel to pixel.

    returns the frame, (3, h, w), a whole number of blocks; pixels and cells along a block
    """
    align = canvas.grid.align
    own = align * given.shape[2] / canvas.height * 1.01  # pixels along a cell
    cell = max(part for part in range(1, align + 1) if align % part == 0 and part <= max(own, 1))
    cells = max(1, round(1.01 / own))  # along a pixel
    of_block = cells * -(-LEAST_PIXELS // cell)
    frame = canvas.enlarge(given, align // cell).float().cpu()
    short = (-side % (of_block * cell) for side in frame.shape[:1:-1])
    frame = F.pad(frame, [pad for missing in short for pad in (0, missing)], "replicate")
    frame = F.avg_pool2d(frame, cells)[0]
    return frame, of_block * cell // cells, of_block
