"""A tokenizer's first weights, solved for instead of drawn.

With its residual branches closed, a tokenizer is a chain of convolutions with one norm and one
activation near each end. This module sets that chain to what is best among linear ones: the encoder
to the principal components of small blocks, the decoder to a least-squares fit, stage by stage.
Training then starts from 30 dB where drawn weights need thousands of steps to reach 20.

Norm and activation are passed unharmed by two means. Every feature x comes as a pair, x and -x:
silu(x) - silu(-x) = x. And each group of the norm holds a pair of large constants, so that its mean
is zero and its deviation nearly fixed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.autoencoder import ResidualBlock, SpatialAttention
from ...nn.least_squares import LeastSquares
from ...varsr.config import TokenizerConfig
from ...varsr.model import VARSR
from .layers import bias_of, clear_rows, convolution, pass_through

SPIKE = 8.0  # deviation that the constants give to a group, in deviations of a feature
EQUALIZED = 0.3  # power of its own deviation by which a component is divided, none to whole
RGB = 3


def tokenizer_fits(config: TokenizerConfig) -> bool:
    """Whether the sizes leave room for every feature and its constants."""
    widths, groups = config.widths, config.norm_groups
    steps = range(len(widths) - 1)
    unfolded = all(widths[i] >= RGB * 4 ** (i + 1) for i in steps[:-1])
    folded = all(widths[i + 1] >= RGB * 4**i for i in steps)
    return (
        len(widths) > 1
        and unfolded
        and folded
        and widths[-2] >= config.latent_channels
        and widths[0] != widths[1]
        and widths[-1] != widths[-2]
        and _room(widths[-1], groups) >= config.latent_channels
        and _room(widths[0], groups) >= RGB
    )


@torch.no_grad()
def linear_start(model: VARSR, pictures: Tensor, deviation: float) -> None:
    """Sets encoder and decoder; the codebook is left to the first steps.

    pictures:  (N, 3, H, W) in [0, 1], some dozens; sides multiples of the pixels per token
    deviation: root of the mean square that the latent gets
    """
    tokenizer = model.config.tokenizer
    for module in (*model.encoder.modules(), *model.decoder.modules()):
        if isinstance(module, ResidualBlock):
            _zero(module.conv2)
        elif isinstance(module, SpatialAttention):
            _zero(module.projection)
    for layer in (model.pre_quantizer, model.post_quantizer, *model.quantizer.phi):
        pass_through(layer, tokenizer.latent_channels)
    pyramid = [pictures * 2 - 1]
    for _ in tokenizer.widths[1:]:
        pyramid.append(F.pixel_unshuffle(pyramid[-1], 2))
    basis, sizes = principal_components(pyramid[-1], tokenizer.latent_channels)
    scales = sizes ** (1 - EQUALIZED)
    _set_encoder(model, basis / sizes, scales / scales.square().mean().sqrt() * deviation)
    _set_decoder(model, model.encode_latent(pictures), pyramid)


def principal_components(blocks: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Directions (channels, count) in which blocks (N, channels, h, w) vary most; deviations."""
    rows = blocks.movedim(1, -1).flatten(0, 2).double()
    variances, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
    variances, directions = variances.flip(0)[:count], directions.flip(1)[:, :count]
    return directions.float(), variances.clamp(min=1e-8).sqrt().float()


def _set_encoder(model: VARSR, basis: Tensor, scales: Tensor) -> None:
    """basis: (channels of a block, C), its products of unit size; scales: (C,) of the latent."""
    encoder = model.encoder
    channels = RGB
    pass_through(encoder.conv_in, RGB)
    for i, level in enumerate(encoder.down[:-1]):
        if i > 0:
            pass_through(convolution(level.blocks[0].shortcut), channels)
        unfold = torch.eye(4 * channels, device=basis.device).reshape(4 * channels, channels, 2, 2)
        if i == len(encoder.down) - 2:
            unfold = torch.einsum("bk,bcyx->kcyx", basis, unfold)
        downsample = convolution(level.downsample)
        clear_rows(downsample, len(unfold))
        downsample.weight[: len(unfold), :channels, :2, :2] = unfold
        channels *= 4
    _spread(convolution(encoder.down[-1].blocks[0].shortcut), encoder.norm_out, len(scales))
    _gather(encoder.conv_out, encoder.norm_out, scales)


def _set_decoder(model: VARSR, latent: Tensor, pyramid: list[Tensor]) -> None:
    """latent: (N, C, h, w); pyramid: blocks it stands for, from RGB to the latent's size."""
    decoder, x = model.decoder, latent
    pass_through(decoder.conv_in, x.shape[1])
    for i in reversed(range(1, len(decoder.up))):
        level = decoder.up[i]
        if i < len(decoder.up) - 1:
            pass_through(convolution(level.blocks[0].shortcut), x.shape[1])
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        weight, bias = _fit(x, pyramid[i - 1])
        wanted, given = weight.shape[:2]
        upsample = convolution(level.upsample)
        clear_rows(upsample, wanted)
        upsample.weight[:wanted, :given] = weight
        bias_of(upsample)[:wanted] = bias
        x = F.conv2d(x, weight, bias, padding=1)
    _spread(convolution(decoder.up[0].blocks[0].shortcut), decoder.norm_out, RGB)
    _gather(decoder.conv_out, decoder.norm_out, torch.ones(RGB))


def _fit(x: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The 3x3 convolution, and its bias, that comes closest from x to `wanted`."""
    squares = LeastSquares(9 * x.shape[1], wanted.shape[1])
    rows = F.unfold(x, 3, padding=1).movedim(1, -1).flatten(0, 1)
    squares.add(rows, wanted.movedim(1, -1).flatten(0, 2))
    weight, bias = (part.to(x) for part in squares.solve())
    return weight.reshape(-1, x.shape[1], 3, 3), bias


def _room(width: int, groups: int) -> int:
    """Features that a normed width can carry: a pair each, and a pair of constants a group."""
    return groups * (max(0, width // groups - 2) // 2)


def _channels_of_pairs(norm: nn.GroupNorm, features: int) -> tuple[list[int], list[int]]:
    """First channels of the features' pairs, spread over the groups, and of the constants'."""
    group = norm.num_channels // norm.num_groups
    starts = [g * group for g in range(norm.num_groups)]
    pairs = [starts[k % len(starts)] + 2 * (k // len(starts)) for k in range(features)]
    return pairs, [start + group - 2 for start in starts]


def _spread(shortcut: nn.Conv2d, norm: nn.GroupNorm, features: int) -> None:
    """Lays the first channels out in pairs, and the constants, before a norm."""
    pairs, constants = _channels_of_pairs(norm, features)
    height = SPIKE * math.sqrt(norm.num_channels / norm.num_groups / 2)
    for sign, offset in ((1, 0), (-1, 1)):
        for k, first in enumerate(pairs):
            shortcut.weight[first + offset] = 0
            shortcut.weight[first + offset, k] = sign
            bias_of(shortcut)[first + offset] = 0
        for first in constants:
            shortcut.weight[first + offset] = 0
            bias_of(shortcut)[first + offset] = sign * height
    norm.weight.fill_(SPIKE)


def _gather(layer: nn.Conv2d, norm: nn.GroupNorm, scales: Tensor) -> None:
    """Features from their pairs, behind norm and silu, times `scales` (K,)."""
    pairs, _ = _channels_of_pairs(norm, len(scales))
    _zero(layer)
    for k, first in enumerate(pairs):
        layer.weight[k, first, 1, 1] = scales[k]
        layer.weight[k, first + 1, 1, 1] = -scales[k]


def _zero(layer: nn.Conv2d) -> None:
    layer.weight.zero_()
    bias_of(layer).zero_()
