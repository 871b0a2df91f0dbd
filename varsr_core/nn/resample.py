"""Square maps of features at another size, on every kind of device."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resample(x: Tensor, side: int, mode: str) -> Tensor:
    """(N, C, h, h) -> (N, C, side, side); mode: of torch's interpolate, "area" is the mean."""
    # MPS cannot pool to a side that does not divide the other; these maps are small enough to move.
    moved = x.device.type == "mps" and mode == "area" and x.shape[-1] % side != 0
    source = x.cpu() if moved else x
    align = None if mode == "area" else False
    return F.interpolate(source, (side, side), mode=mode, align_corners=align).to(x.device)
