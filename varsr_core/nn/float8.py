"""Weights of matrix products in 8 bits (float8_e4m3fn): a quarter of float32, half of bf16.

Every output of a layer has a scale of its own, a power of two. A weight times its scale is then a
number that bf16 and fp16 hold without rounding, so nothing is lost but by the 8 bits themselves.
"""

from __future__ import annotations

from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..files.lazy_tensor import LazyTensor, StateDict
from .parameters import bring

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
# Products of 8-bit numbers need sides that are multiples of this,
ALIGNMENT = 16
# and a GPU of this compute capability: Ada and newer.
CAPABILITY = (8, 9)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) -> the same in float8, and the scale of each output: (outputs,) float32."""
    scale = row_scales(weight)
    return (weight.float() / scale[:, None]).to(FLOAT8), scale


def row_scales(weight: Tensor) -> Tensor:
    """Powers of two by which the rows of a matrix fit into float8: (outputs,) float32."""
    largest = weight.abs().amax(dim=1).float().clamp(min=torch.finfo(torch.float16).tiny)
    return torch.exp2(torch.ceil(torch.log2(largest / LARGEST)))


def multiply(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x (..., inputs) times a quantised weight, both in float8 on the way: (..., outputs).

    x gets one scale for each row. The sum runs in float32, the result has the dtype of x.
    """
    rows = x.flatten(0, -2)
    largest = rows.abs().amax(dim=1, keepdim=True).float().clamp(min=torch.finfo(x.dtype).tiny)
    own = largest / LARGEST
    product = torch._scaled_mm(  # pyright: ignore[reportPrivateImportUsage]: no public name
        (rows.float() / own).to(FLOAT8), weight.T, own, scale[None], out_dtype=torch.bfloat16
    )
    return product.to(x.dtype).unflatten(0, x.shape[:-1])


@lru_cache
def multiplies_float8(device: torch.device) -> bool:
    """Whether a device has units for products of 8-bit numbers, and this torch can use them."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY:
        return False
    x = torch.ones(ALIGNMENT, ALIGNMENT, device=device, dtype=torch.bfloat16)
    try:
        multiply(x, *quantise(x))
    except RuntimeError:  # a scale for each row came to some GPUs later than to others
        return False
    return True


class Float8Linear(nn.Module):
    """A linear layer with its weight in float8; the bias stays as it was.

    On a device that multiplies 8-bit numbers its input is rounded to them, too; elsewhere only the
    weight is, and what is saved is memory. Brings its weights to its input where a host left them;
    a host with a way of its own to do that overrides `forward`.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantise(linear.weight)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.bias = linear.bias
        self.aligned = not any(side % ALIGNMENT for side in weight.shape)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else bring(self.bias, x, x.dtype)
        return self.product(x, bring(self.weight, x), bias)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """weight: in float8, and bias: in the dtype of x; both on its device."""
        scale = bring(self.scale, x)
        if self.aligned and x.dtype != torch.float32 and multiplies_float8(x.device):
            product = multiply(x, weight, scale)
            return product if bias is None else product + bias
        return F.linear(x, weight.to(x.dtype) * scale.to(x.dtype)[:, None], bias)


def store_in_float8(module: nn.Module, layer: type[Float8Linear] = Float8Linear) -> None:
    """Replaces all linear layers below `module`."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, layer(child))


def widened(weights: StateDict) -> StateDict:
    """Weights as they were before store_in_float8(), but for its rounding: to be stored so again.

    That loses nothing more, for scales are powers of two.
    """
    wide = dict(weights)
    for name, tensor in weights.items():
        if tensor.dtype == FLOAT8:
            scale = wide.pop(f"{name.removesuffix('weight')}scale")
            product = partial(_widen, tensor, scale)
            wide[name] = LazyTensor(tensor.shape, torch.float32, product)
    return wide


def _widen(tensor: Tensor | LazyTensor, scale: Tensor | LazyTensor) -> Tensor:
    return tensor.detach().float() * scale.detach()[:, None]
