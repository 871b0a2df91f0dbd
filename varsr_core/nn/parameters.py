"""Weights that a host has left in system memory, brought to the work that needs them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def bring(weight: Tensor, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """`weight` where x is, in its own dtype or another.

    To a GPU without waiting: a plain copy would hold the program up until all work that is queued
    there is done, and with it the copies of large weights that a host has under way meanwhile.
    """
    return weight.to(x.device, dtype or weight.dtype, non_blocking=x.is_cuda)


def weight_bytes(network: nn.Module) -> int:
    """Memory that all weights of a network take, wherever they lie."""
    return sum(weight.nbytes for weight in network.parameters())


class LeafParameter(nn.Module):
    """A learned tensor that is a module of its own: hosts offload modules without children, and
    miss the parameters of any other. Its name in a file is that of the module and `.weight`."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))

    def forward(self, x: Tensor) -> Tensor:
        """The tensor, on the device and in the dtype of x."""
        return bring(self.weight, x, x.dtype)
