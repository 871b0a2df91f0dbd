"""The low-quality picture as prefix tokens (paper, section 3.2)."""

from __future__ import annotations

from types import ModuleType

import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.layer_list import LayerList


class PrefixEncoder(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> (N, S * S, D): one token for each token of the last scale."""

    def __init__(self, widths: tuple[int, ...], width: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = LayerList(
            operations.Conv2d(narrow, outputs, 3, padding=1, stride=stride)
            for narrow, wide in zip(widths, widths[1:], strict=False)
            for outputs, stride in ((narrow, 1), (wide, 2))
        )
        self.conv_out = operations.Conv2d(widths[-1], width, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        x = F.silu(self.conv_in(lq))
        for convolution in self.blocks:
            x = F.silu(convolution(x))
        return self.conv_out(x).flatten(2).transpose(1, 2)
