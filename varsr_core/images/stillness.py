"""Where a film stands still: cells of a frame that differ from those before by no more than noise.

No motion is followed. The noise is the film's own, as it shows in what changes least from frame to
frame, and never more than what a frame itself shows as noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_NOISE = 1 / 255  # of a pixel: rounding, and what coding leaves of a picture that is still
AS_LEAST = 0.15  # quantile of the cells: so few are taken to be still in any film
GROUPS, LEAST_CELLS = 6, 64  # of cells by brightness, on which noise depends; and cells in each
MOST_UNEQUAL = 9.0  # variance of the noisiest group, in units of that of the quietest
AGAINST_SPATIAL = 1.5  # times the noise that shows within a frame, at most
AGAINST_WHITE = 2.0  # times what white noise leaves in the mean of a cell, at most
# Change in units of noise, as mean squares, from which a cell is less than still, and from which it
# is not: 1 is noise alone. Of pixels, and of means of cells, of which there are fewer.
PIXELS, MEANS = (1.4, 2.0), (1.7, 3.0)
TELLING = 4.0  # variance of a cell in units of noise, from which a cut must show there
LEAST_STILL = 0.05  # of the cells that would tell: where fewer are still, a new scene begins


@dataclass(frozen=True)
class Noise:
    """Variance of a frame's noise of pixels and of means of cells, (C, h / side, w / side) each."""

    pixels: Tensor
    means: Tensor

    def least(self, other: Noise | None) -> Noise:
        """Of two estimates: what is no noise can only make them larger."""
        if other is None:
            return self
        return Noise(self.pixels.minimum(other.pixels), self.means.minimum(other.means))


def noise_between(frame: Tensor, before: Tensor, side: int) -> Noise:
    """frame, before: (C, h, w) in [0, 1]; side: of a cell, a divisor of h and w."""
    change, brightness = (frame - before) / sqrt(2), _pool(frame, side)
    # Where nothing at all changes, as in borders, there is no noise to learn of, nor beside it.
    told = -F.max_pool2d(-_pool(change.square(), side)[None], 3, 1, 1)[0] > 0
    pixels, means = (_least(square, brightness, told) for square in _squares(change, side))
    rows = frame[:, : frame.shape[1] // 2 * 2, : frame.shape[2] // 2 * 2].unfold(1, 2, 2)
    crossed = rows.diff(dim=3)[..., 0].unfold(2, 2, 2).diff(dim=3)[..., 0] / 2
    within = F.interpolate(crossed.square()[None], brightness.shape[1:], mode="area")[0]
    spatial = AGAINST_SPATIAL**2 * _least(_around(within), brightness, told)
    pixels = pixels.minimum(spatial).clamp(min=LEAST_NOISE**2)
    white = (AGAINST_WHITE / side) ** 2 * pixels
    return Noise(pixels, means.minimum(white).maximum(pixels / side**2))


def stillness(frame: Tensor, reference: Tensor, noise: Noise, share: Tensor, side: int) -> Tensor:
    """How still each cell is: (h / side, w / side), 1 where nothing but noise changed, 0 where more

    frame, reference: (C, h, w) in [0, 1]
    share: (h / side, w / side) variance of the reference's noise, in units of a frame's
    side:  of a cell, a divisor of h and w
    """
    still = torch.ones_like(share)
    for square, variance, (low, high) in zip(
        _squares(frame - reference, side),
        (noise.pixels, noise.means),
        (PIXELS, MEANS),
        strict=True,
    ):
        change = (square / (variance * (1 + share))).mean(dim=0)
        still = still.minimum(((high - change) / (high - low)).clamp(0, 1))
    # What moves shows in the cells beside it, too.
    return -F.max_pool2d(-still[None], 3, 1, 1)[0]


def is_cut(still: Tensor, frames: tuple[Tensor, Tensor], noise: Noise, side: int) -> bool:
    """Whether a new scene begins: of the cells with structure, in one of the frames or the other,
    hardly one is still. What is black or plain in both says nothing."""
    telling = torch.zeros_like(still, dtype=torch.bool)
    for frame in frames:
        mean, square = _around(_pool(frame, side)), _around(_pool(frame.square(), side))
        telling |= ((square - mean.square()) / noise.pixels).mean(dim=0) > TELLING
    return bool(telling.any()) and float((still[telling] > 0.5).float().mean()) < LEAST_STILL


def _squares(change: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Mean squares around each cell, (C, h / side, w / side): of pixels, and of means of cells."""
    return _around(_pool(change.square(), side)), _around(_pool(change, side).square())


def _pool(x: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(x[None], side)[0]


def _around(x: Tensor) -> Tensor:
    """The mean of each cell and its neighbours."""
    return F.avg_pool2d(x[None], 3, 1, 1, count_include_pad=False)[0]


def _least(square: Tensor, brightness: Tensor, told: Tensor) -> Tensor:
    """(C, h, w) -> (C, h, w): of each cell, what those of about its brightness have that change
    least.

    told: (C, h, w) bool, cells to learn of
    """
    found = torch.zeros_like(square)
    for values, bright, tell, out in zip(square, brightness, told, found, strict=True):
        known, at = values[tell], bright[tell]
        if len(known):
            groups = min(GROUPS, max(len(known) // LEAST_CELLS, 1))
            order = at.argsort()
            parts = [(at[part], known[part]) for part in order.tensor_split(groups)]
            points = torch.stack([where.mean() for where, _ in parts])
            levels = torch.stack([level.quantile(AS_LEAST) for _, level in parts])
            out.copy_(_between(bright, points, levels.clamp(max=MOST_UNEQUAL * levels.min())))
    return found


def _between(x: Tensor, points: Tensor, values: Tensor) -> Tensor:
    """Values at x, linear between points, which rise; the outermost beyond them."""
    if len(points) == 1:
        return values.expand_as(x)
    above = torch.searchsorted(points, x.contiguous()).clamp(1, len(points) - 1)
    low, high = points[above - 1], points[above]
    share = ((x - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return torch.lerp(values[above - 1], values[above], share)
