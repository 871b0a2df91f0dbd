"""Weights of layers, set by hand."""

from __future__ import annotations

from torch import Tensor, nn


def convolution(layer: nn.Module | None) -> nn.Conv2d:
    """A layer that is a convolution at the sizes that fit; at others a level may lack it."""
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"{layer} is no convolution")
    return layer


def bias_of(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """The bias, which every layer that is set here has."""
    if layer.bias is None:
        raise ValueError(f"{layer} has no bias")
    return layer.bias


def clear_rows(layer: nn.Conv2d | nn.Linear, count: int) -> None:
    """The first `count` outputs of a layer become zero."""
    layer.weight[:count] = 0
    bias_of(layer)[:count] = 0


def pass_through(layer: nn.Conv2d, channels: int) -> None:
    """The first channels go through unchanged; the others stay as they were drawn."""
    clear_rows(layer, channels)
    middle = layer.kernel_size[0] // 2
    for k in range(channels):
        layer.weight[k, k, middle, middle] = 1
