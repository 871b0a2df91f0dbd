"""Counts what autograd keeps of a step, without memory and without a GPU: on the meta device."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...runtime.precision import products_as_they_are

Module = TypeVar("Module", bound=nn.Module)

PRODUCTS = (F.linear, F.conv2d, torch.matmul, torch.bmm, torch.addmm)


def on_meta(module: Module) -> Module:
    """The same module with weights that have a shape and no values; the module itself stays."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        meta = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
        memo[id(parameter)] = nn.Parameter(meta, parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty(buffer.shape, dtype=buffer.dtype, device="meta")
    return copy.deepcopy(module, memo)


class SavedBytes:
    """Bytes of all tensors that were kept, each storage once; weights are not among them."""

    def __init__(self, weights: nn.Module) -> None:
        self._weights = {_storage(p) for p in weights.parameters()}
        self._kept: dict[int, Tensor] = {}  # the tensors too: an id is for as long as they live

    def add(self, tensor: Tensor) -> None:
        if _storage(tensor) not in self._weights:
            self._kept.setdefault(_storage(tensor), tensor)

    @property
    def total(self) -> int:
        return sum(_bytes(tensor) for tensor in self._kept.values())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()


@contextmanager
def counted(module: nn.Module, again: Sequence[nn.Module] = ()) -> Iterator[SavedBytes]:
    """A context that counts what is kept for the gradient of what is computed in it.

    again: parts that are computed again for the gradient; what goes into them is kept, though
           autograd is not told of it. What the first of them keeps while it is, is counted too.
    """
    saved, first = SavedBytes(module), []

    def pack(tensor: Tensor) -> Tensor:
        saved.add(tensor)
        return tensor

    def enters(part: nn.Module, given: tuple[Any, ...]) -> None:
        for value in given:
            if isinstance(value, Tensor) and torch.is_grad_enabled():
                saved.add(value)
        first.append((part, given))

    hooks = [part.register_forward_pre_hook(enters) for part in again]
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield saved
            for hook in hooks:
                hook.remove()
            for part, given in first[:1]:
                part(*given)
    finally:
        for hook in hooks:
            hook.remove()


class AsOnGPU(TorchFunctionMode):
    """What is computed in this context on "meta" keeps what a GPU would keep.

    Products are in `dtype`, as under autocast, and attention is one kernel.

    cast:    weights in `dtype`, which autocast keeps until the pass is over
    largest: bytes of the largest tensor that was made
    """

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.dtype, self.largest = dtype, 0
        self.cast: dict[int, Tensor] = {}  # weights, once for a pass

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _Attention.apply(*args[:3])
        if self.dtype is not None and func in PRODUCTS and not products_as_they_are():
            args = tuple(map(self._lower, args))
            kwargs = {name: self._lower(value) for name, value in kwargs.items()}
        made = func(*args, **kwargs)
        if isinstance(made, Tensor):
            self.largest = max(self.largest, made.numel() * made.itemsize)
        return made

    def _lower(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(self.dtype)
        if id(value) not in self.cast:
            self.cast[id(value)] = value.to(self.dtype)
        return self.cast[id(value)]


class _Attention(torch.autograd.Function):
    """Keeps what a fused kernel keeps: queries, keys, values, result, and a number for each row."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen = torch.empty_like(q)
        sums = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
        ctx.save_for_backward(q, k, v, seen, sums)
        return seen

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.saved_tensors[:3]
