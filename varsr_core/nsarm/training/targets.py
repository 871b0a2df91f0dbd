"""A good picture as codes, scale after scale, with mistakes that later scales learn to correct.

Infinity's encoding and its bitwise self-correction: the rest of the latent is shrunk by area to a
scale, its signs are the bits; what later scales build on has some of them flipped, and their own
bits are found anew from there. NSARM gives the first scales in place of the encoding's
(`BitwiseSelfCorrection_re` of its code). That these are never flipped is our guess: the map
network makes mistakes of its own. Infinity draws one share of flips for a scale of a whole batch,
in whole percents; here each picture draws its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...nn.resample import resample
from ...training.steps.draws import draw_rows, rows_of
from ..bits import codes_of_signs, patch
from ..config import PATCH
from ..model import NSARM
from ..sampling import SampleSettings, enlarged, next_words


@dataclass(frozen=True)
class Pyramid:
    """
    codes:   of each scale (N, C, side, side), what it is to say where it stands
    latents: after each scale (N, C, S, S), of what later scales are shown
    """

    codes: list[Tensor]
    latents: list[Tensor]

    def bits(self, scale: int) -> Tensor:
        """(N, tokens, bits of a token) int64, 0 or 1."""
        return (patch(self.codes[scale]) > 0).long()

    def words(self, model: NSARM, settings: SampleSettings) -> list[Tensor | None]:
        """Inputs of all scales, as sampling makes them; the first one's comes from the text."""
        later = range(1, len(self.latents))
        return [None, *(next_words(model, self.latents[k - 1], k, settings) for k in later)]


@torch.no_grad()
def encode(
    model: NSARM,
    latent: Tensor,
    forced: Sequence[Tensor] = (),
    flipped: float = 0.0,
    generator: torch.Generator | None = None,
    *,
    scales: int | None = None,
) -> Pyramid:
    """
    latent:    (N, C, S, S) float32 of the good picture, from the autoencoder
    forced:    codes (N, C, side, side) that are shown of the first scales, whatever is right
    flipped:   largest share of a scale's bits that are shown wrong; each picture and scale draws
               its own from 0 to this
    generator: on the CPU; draws which
    scales:    how many first ones are wanted; None for all
    """
    final, total = model.config.final_cells, torch.zeros_like(latent)
    codes, latents = [], []
    for scale, tokens in enumerate(model.config.schedule.sides[:scales]):
        side, rest = PATCH * tokens, latent - total
        codes.append(codes_of_signs(rest if side == final else resample(rest, side, "area")))
        shown = codes[-1]
        if scale < len(forced):
            shown = forced[scale]
        elif flipped > 0:
            shown = flip(shown, flipped, generator)
        total = total + enlarged(model, shown)
        latents.append(total)
    return Pyramid(codes, latents)


def flip(codes: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Codes (N, C, side, side) of which every picture has from 0 to `share` turned around."""
    count, *shape = codes.shape
    generator = generator or torch.default_generator
    rows = rows_of(generator, count)
    own = draw_rows(generator, rows, lambda n: torch.rand(n, 1, 1, 1, generator=generator))
    drawn = draw_rows(generator, rows, lambda n: torch.rand(n, *shape, generator=generator))
    return torch.where((drawn < share * own).to(codes.device), -codes, codes)
