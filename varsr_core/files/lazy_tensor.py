"""Tensors that are computed when they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


class LazyTensor:
    """What a tensor will be, and how it is made; nothing of it is kept.

    So a checkpoint whose tensors are changed one by one is written in the memory of one of them.
    It stands in for a tensor where names, shapes and dtypes are looked at; detach() or to() give
    the tensor itself.

    make: computes it, of exactly this shape and dtype, the same at every call
    """

    def __init__(
        self, shape: Sequence[int], dtype: torch.dtype, make: Callable[[], Tensor]
    ) -> None:
        self.shape, self.dtype, self._make = torch.Size(shape), dtype, make

    def numel(self) -> int:
        return self.shape.numel()

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def detach(self) -> Tensor:
        """The tensor, computed anew."""
        return self._make().detach()

    def to(self, dtype: torch.dtype) -> Tensor:
        """The tensor in another dtype."""
        return self.detach().to(dtype)


StateDict = Mapping[str, Tensor | LazyTensor]
"""Weights by name."""
