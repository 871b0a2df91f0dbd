"""The blocks' matrices in eight bits: each row with a scale of its own, a power of two.

A power of two costs fp8 no precision, and is exact in every dtype that the products run in.
"""

from __future__ import annotations

import re
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files.lazy_tensor import LazyTensor, StateDict
from ..nn.float8 import FLOAT8, quantise, row_scales
from ..nn.parameters import LeafParameter
from .config import is_packed

PACKED = re.compile(
    r"(transformer\.blocks\.\d+\.(?:qkv|projection|cross_query|cross_kv|cross_projection|fc1|fc2))"
    r"\.(weight|bias)"
)


class RowScaled(nn.Module):
    """A linear layer with an fp8 matrix; its bias is in units of the row's scale."""

    def __init__(self, inputs: int, outputs: int, operations: ModuleType = nn) -> None:
        super().__init__()
        linear = CastingLinear if operations is nn else operations.Linear
        self.matrix = linear(inputs, outputs)
        self.scale = LeafParameter(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix(x) * self.scale(x)


class CastingLinear(nn.Linear):
    """Casts its matrix to the dtype of its input, as a host's layers do."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


def pack(weights: StateDict, dtype: torch.dtype) -> StateDict:
    """What a file of `dtype` holds, fp8 matrices computed when they are written."""
    if is_packed(weights):
        if dtype != FLOAT8:
            raise CheckpointError(
                "this file is in fp8 already, which cannot be undone; convert the released files"
            )
        return weights
    if dtype != FLOAT8:
        return weights
    packed: dict[str, Tensor | LazyTensor] = {}
    for name, tensor in weights.items():
        match = PACKED.fullmatch(name)
        if match is None:
            packed[name] = tensor
        elif match[2] == "weight":
            packed |= _packed_matrix(match[1], tensor)
        else:
            packed[f"{match[1]}.matrix.bias"] = _scaled_bias(tensor, weights[f"{match[1]}.weight"])
    return packed


def _packed_matrix(layer: str, weight: Tensor | LazyTensor) -> dict[str, LazyTensor]:
    def matrix() -> Tensor:
        return quantise(weight.detach())[0]

    def scale() -> Tensor:
        return row_scales(weight.detach())

    return {
        f"{layer}.matrix.weight": LazyTensor(weight.shape, FLOAT8, matrix),
        f"{layer}.scale.weight": LazyTensor(weight.shape[:1], torch.float32, scale),
    }


def _scaled_bias(bias: Tensor | LazyTensor, weight: Tensor | LazyTensor) -> LazyTensor:
    def scaled() -> Tensor:
        return bias.detach().float() / row_scales(weight.detach())

    return LazyTensor(bias.shape, torch.float32, scaled)
