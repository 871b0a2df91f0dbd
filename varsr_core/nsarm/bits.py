"""Binary spherical codes: every channel of a cell is one bit, and a cell has length 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import PATCH


def codes_of_bits(bits: Tensor) -> Tensor:
    """bits: (N, C, h, w) bool -> codes of length 1, float32."""
    return codes_of_signs(bits.float() * 2 - 1)


def codes_of_signs(values: Tensor) -> Tensor:
    """The nearest codes of (N, C, h, w), float32; zero counts as negative, as in training.

    What is not finite has none, and stays NaN for check_latents() to find.
    """
    signs = torch.where(values > 0, 1.0, -1.0)
    return torch.where(values.isfinite(), signs, torch.nan) / values.shape[1] ** 0.5


def unpatch(tokens: Tensor, side: int) -> Tensor:
    """Tokens (N, side * side, bits) to cells (N, bits / 4, 2 * side, 2 * side)."""
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (side, side)), PATCH)


def patch(cells: Tensor) -> Tensor:
    """Cells (N, C, 2 * side, 2 * side) to tokens (N, side * side, 4 * C)."""
    return F.pixel_unshuffle(cells, PATCH).flatten(2).transpose(1, 2)


def draw_bits(
    logits: Tensor, *, temperature: float, top_p: float, uniform: Tensor | None
) -> Tensor:
    """One independent draw for each bit (paper, bitwise prediction).

    logits:      (N, L, bits, 2) float32, of zero and of one
    temperature: logits are divided by it; 0 takes the likelier
    top_p:       a bit whose likelier value has more than this is not drawn
    uniform:     (N, L, bits) in [0, 1); None where temperature is 0
    returns      (N, L, bits) bool
    """
    margin = logits[..., 1] - logits[..., 0]
    if temperature == 0:
        return margin > 0  # ties are zero, as argmax has it
    if uniform is None:
        raise ValueError("drawing bits needs uniform numbers")
    likely = torch.sigmoid(margin / temperature)
    certain = torch.maximum(likely, 1 - likely) > top_p
    return torch.where(certain, margin > 0, uniform.to(likely) < likely)
