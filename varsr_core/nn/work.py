"""How much work networks are that families share: sizes times tokens or pixels.

See runtime/work.py.
Norms and other arithmetic on single numbers are not counted; softmax is, for short heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from ..runtime.work import Calls
from ..tiling.grid import TileGrid
from .autoencoder import Decoder, Encoder, Level, ResidualBlock, SpatialAttention
from .map_network import MapConfig, MapNetwork

SOFTMAX = 40  # products in the time of one weight of attention, for one head
CONVOLUTION = 2  # kernels
RESIDUAL_BLOCK = 8
ATTENTION = 8
EXTRACTOR = 9
BRANCH, BRANCH_LAYER = 12, 15


def attention(queries: int, keys: int, heads: int, head_dim: int) -> int:
    """Products of logits and sums; those that lead there and away are not in it."""
    return queries * keys * heads * (2 * head_dim + SOFTMAX)


def weights_of(module: nn.Module) -> int:
    """Numbers in its convolutions, each of which is multiplied once for each pixel."""
    return sum(
        layer.in_channels * layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d)
    )


def convolution(module: nn.Module, pixels: int) -> Calls:
    """pixels: of the result."""
    return Calls(module, weights_of(module) * pixels, CONVOLUTION)


def coarse_parts(
    decoder: Decoder, height: int, width: int, windows: Sequence[TileGrid | None] = ()
) -> list[Calls]:
    """The decoder's coarse part on so many cells; windows: as it takes them."""
    levels = decoder.up[decoder.split :][::-1]
    windows = windows or [None] * len(levels)
    parts = [convolution(decoder.conv_in, height * width)]
    parts += _parts(decoder.middle, height * width, windows[0])
    for level, window in zip(levels, windows, strict=True):
        parts += _parts(level, height * width, window)
        if level is not levels[-1]:
            height, width = 2 * height, 2 * width
            parts += _resampling(level, height * width)
    return parts


def fine_parts(decoder: Decoder, height: int, width: int) -> list[Calls]:
    """The decoder's fine part on so many features."""
    parts = []
    for level in decoder.up[: decoder.split + 1][::-1]:
        if level is not decoder.up[decoder.split]:
            parts += _parts(level, height * width)
        if level is not decoder.up[0]:
            height, width = 2 * height, 2 * width
            parts += _resampling(level, height * width)
    return [*parts, convolution(decoder.conv_out, height * width)]


def encoder_parts(encoder: Encoder, height: int, width: int) -> list[Calls]:
    """The encoder on so many pixels."""
    parts = [convolution(encoder.conv_in, height * width)]
    for level in encoder.down:
        parts += _parts(level, height * width)
        if level is not encoder.down[-1]:
            height, width = height // 2, width // 2
            parts += _resampling(level, height * width)
    parts += _parts(encoder.middle, height * width)
    return [*parts, convolution(encoder.conv_out, height * width)]


def map_parts(maps: MapNetwork, config: MapConfig, scales: int | None = None) -> list[Calls]:
    """The network that gives token maps; scales: only the first ones of them."""
    cells = config.side**2
    parts = [Calls(maps.extractor, weights_of(maps.extractor) * cells, EXTRACTOR)]
    sizes = zip(maps.branches, maps.sides, config.widths, config.layers, config.heads, strict=True)
    for branch, side, width, layers, heads in list(sizes)[:scales]:
        of_layer = side**2 * 12 * width**2 + attention(side**2, side**2, heads, width // heads)
        products = weights_of(branch.features) * cells + layers * of_layer
        parts.append(Calls(branch, products, BRANCH + layers * BRANCH_LAYER))
    return parts


def _resampling(level: Level, pixels: int) -> Iterator[Calls]:
    """Its convolution, if it has one."""
    module = level._modules.get(level.resampling)
    if module is not None:
        yield convolution(module, pixels)


def _parts(module: nn.Module, pixels: int, windows: TileGrid | None = None) -> Iterator[Calls]:
    """Residual blocks and attention of a level, or of the middle."""
    for layer in module.modules():
        if isinstance(layer, ResidualBlock):
            yield Calls(layer, weights_of(layer) * pixels, RESIDUAL_BLOCK)
        elif isinstance(layer, SpatialAttention):
            width, products = layer.projection.in_channels, weights_of(layer) * pixels
            count, seen = (1, pixels) if windows is None else (len(windows), windows.tile**2)
            looks = count * attention(seen, seen, 1, width)
            yield Calls(layer, products + looks, count * ATTENTION)
