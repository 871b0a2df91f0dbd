"""Layers whose weights are in another dtype than what they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LAYERS = (F.linear, F.conv2d, F.layer_norm)  # first the input, then, among others, the weights


class CastWeights(TorchFunctionMode):
    """While it lasts, layers cast their weights to the dtype of their input, each when it runs, as
    a host's layers do by themselves: no second model is held in memory."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func in LAYERS:
            like = args[0]
            args = [_cast(one, like) for one in args]
            named = {name: _cast(one, like) for name, one in named.items()}
        return func(*args, **named)


def _cast(value: Any, like: Tensor) -> Any:
    return value.to(like.dtype) if isinstance(value, Tensor) else value
