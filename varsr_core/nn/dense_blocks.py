"""Residual-in-residual dense blocks, RRDB (ESRGAN, Wang et al., 2018, arXiv:1809.00219)."""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layer_list import LayerList

FEATURES, GROWTH = 64, 32  # channels of a block, and what each convolution adds to them
INNER = 4  # convolutions that add channels; one more makes FEATURES of them all
DENSE_BLOCKS = 3  # of a residual-in-residual dense block
SHARE = 0.2  # of a branch that is added to what it came from
SLOPE = 0.2  # of negative values


class DenseBlock(nn.Module):
    """(N, FEATURES, H, W) -> the same shape; every convolution sees all results before it."""

    def __init__(self, operations: ModuleType = nn) -> None:
        super().__init__()
        self.convolutions = LayerList(
            operations.Conv2d(
                FEATURES + i * GROWTH, GROWTH if i < INNER else FEATURES, 3, padding=1
            )
            for i in range(INNER + 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self.convolutions
        seen = x
        for convolution in inner:
            seen = torch.cat((seen, F.leaky_relu(convolution(seen), SLOPE)), dim=1)
        return x + SHARE * last(seen)


class RRDB(nn.Module):
    """(N, FEATURES, H, W) -> the same shape."""

    def __init__(self, operations: ModuleType = nn) -> None:
        super().__init__()
        self.blocks = LayerList(DenseBlock(operations) for _ in range(DENSE_BLOCKS))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block in self.blocks:
            y = block(y)
        return x + SHARE * y
