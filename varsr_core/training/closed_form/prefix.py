"""The prefix encoder's first weights, solved for: the best linear estimate of the latent.

Activations are passed unharmed in pairs: silu(x) - silu(-x) = x.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.least_squares import LeastSquares
from ...varsr.model import VARSR
from ...varsr.prefix_encoder import PrefixEncoder
from ..stages.encoded_target import EncodedPair
from .layers import clear_rows
from .stream_layout import StreamLayout
from .tokenizer import principal_components

KEPT_SHARE = 4  # of the last prefix width: a half for pairs, and half of that left drawn
RGB = 3


def prefix_fits(widths: Sequence[int], channels: int) -> bool:
    """Whether prefix encoders of these widths have room for all pixels of a cell, in pairs."""
    paired = all(2 * RGB * 4**i <= width for i, width in enumerate(widths[:-1]))
    return paired and widths[-1] // KEPT_SHARE >= channels


@torch.no_grad()
def prefix_start(model: VARSR, batches: Sequence[EncodedPair]) -> None:
    """Prefix encoder: the pixels of a cell in pairs, their principal components, then the best
    linear estimate of the latent; model and batches as for restorer_start().
    """
    encoder, layout = model.prefix_encoder, StreamLayout.of(model.config)
    pictures = batches[0][0] * 2 - 1
    cell = model.config.tile_size // model.config.schedule.final_side
    kept = min(model.config.transformer.prefix_widths[-1] // KEPT_SHARE, RGB * cell * cell)
    basis, sizes = principal_components(_unshuffled(pictures, cell), kept)
    _pair(encoder.conv_in, _identity(RGB))
    channels = RGB
    for number, (same, halving) in enumerate(
        zip(encoder.blocks[::2], encoder.blocks[1::2], strict=True)
    ):
        _pair(same, _identity(channels))
        unfold = torch.zeros(4 * channels, channels, 3, 3)
        # Padding of one on each side: the pixels of a cell lie behind the kernel's first row.
        unfold[:, :, 1:, 1:] = torch.eye(4 * channels).reshape(4 * channels, channels, 2, 2)
        if number == len(encoder.blocks) // 2 - 1:
            unfold = torch.einsum("bk,bcyx->kcyx", (basis / sizes.sqrt()).cpu(), unfold)
        _pair(halving, unfold)
        channels = len(unfold)
    squares = LeastSquares(9 * channels, layout.channels)
    for lq, _, target in batches:
        paired = _before_last(encoder, lq * 2 - 1)
        features = paired[:, :channels] - paired[:, channels : 2 * channels]
        rows = F.unfold(features, 3, padding=1).transpose(1, 2).flatten(0, 1)
        squares.add(rows, target.whole.flatten(2).transpose(1, 2).flatten(0, 1))
    weight, bias = squares.solve()
    clear_rows(encoder.conv_out, layout.end)
    weight = weight.reshape(-1, channels, 3, 3).to(encoder.conv_out.weight)
    encoder.conv_out.weight[layout.estimate, :channels] = weight
    encoder.conv_out.weight[layout.estimate, channels : 2 * channels] = -weight
    encoder.conv_out.bias[layout.estimate] = bias.to(encoder.conv_out.bias)


def _before_last(encoder: PrefixEncoder, pictures: Tensor) -> Tensor:
    x = F.silu(encoder.conv_in(pictures))
    for convolution in encoder.blocks:
        x = F.silu(convolution(x))
    return x


def _unshuffled(pictures: Tensor, cell: int) -> Tensor:
    """Cells as channels, in the order in which halving convolutions bring them."""
    while cell > 1:
        pictures, cell = F.pixel_unshuffle(pictures, 2), cell // 2
    return pictures


def _identity(channels: int) -> Tensor:
    kernel = torch.zeros(channels, channels, 3, 3)
    kernel[:, :, 1, 1] = torch.eye(channels)
    return kernel


def _pair(convolution: nn.Conv2d, kernel: Tensor) -> None:
    """Sets the first outputs to `kernel` (out, in, 3, 3) of the features, and to its opposite.

    Features come in pairs too, behind their activation; in the first convolution they do not.
    """
    wide, narrow = kernel.shape[:2]
    paired = convolution.in_channels != narrow
    clear_rows(convolution, 2 * wide)
    for sign, first in ((1, 0), (-1, wide)):
        rows = convolution.weight[first : first + wide]
        rows[:, :narrow] = sign * kernel.to(rows)
        if paired:
            rows[:, narrow : 2 * narrow] = -sign * kernel.to(rows)
