"""The low-quality picture as prefix tokens (paper, section 3.2), and an addition of ours."""

from __future__ import annotations

from types import ModuleType

import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.dense_blocks import FEATURES, RRDB
from ..nn.layer_list import LayerList

REDUCTION = 4  # pixels of the tile for each of those that the deep part works on, along one side
RGB = 3


class DeepPrefix(nn.Module):
    """What eight convolutions cannot see: (N, 3, H, W) in [-1, 1] -> (N, D, S, S), to be added.

    The released model has none: its transformer is deep enough. A small model's is not, and takes
    damage for detail. This part works where pictures have the size at which they were damaged, if
    they were enlarged four times, as RRDB networks do.
    """

    def __init__(
        self, blocks: int, width: int, downsampling: int, operations: ModuleType = nn
    ) -> None:
        super().__init__()
        self.conv_in = operations.Conv2d(RGB * REDUCTION**2, FEATURES, 3, padding=1)
        self.blocks = LayerList(RRDB(operations) for _ in range(blocks))
        stride = downsampling // REDUCTION
        self.conv_out = operations.Conv2d(
            FEATURES, width, 2 * stride, stride=stride, padding=stride // 2
        )

    def features(self, lq: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, FEATURES, H / REDUCTION, W / REDUCTION)."""
        x = self.conv_in(F.pixel_unshuffle(lq, REDUCTION))
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, lq: Tensor) -> Tensor:
        return self.conv_out(self.features(lq))


class PrefixEncoder(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> (N, S * S, D): one token for each token of the last scale.

    deep: residual-in-residual dense blocks of a DeepPrefix; 0 for none
    """

    def __init__(
        self, widths: tuple[int, ...], width: int, deep: int = 0, operations: ModuleType = nn
    ) -> None:
        super().__init__()
        self.conv_in = operations.Conv2d(RGB, widths[0], 3, padding=1)
        self.blocks = LayerList(
            operations.Conv2d(narrow, outputs, 3, padding=1, stride=stride)
            for narrow, wide in zip(widths, widths[1:], strict=False)
            for outputs, stride in ((narrow, 1), (wide, 2))
        )
        self.conv_out = operations.Conv2d(widths[-1], width, 3, padding=1)
        self.deep: DeepPrefix | None = None
        if deep:
            self.deep = DeepPrefix(deep, width, 2 ** (len(widths) - 1), operations)

    def forward(self, lq: Tensor) -> Tensor:
        x = F.silu(self.conv_in(lq))
        for convolution in self.blocks:
            x = F.silu(convolution(x))
        tokens = self.conv_out(x)
        if self.deep is not None:
            tokens = tokens + self.deep(lq)
        return tokens.flatten(2).transpose(1, 2)
