"""Modules that share their layers with another one and differ from it in how they are run.

What a host does to the layers (move, patch, offload) it does to both.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def shell(module: Module) -> Module:
    """The same module, but its children can be replaced without the other knowing."""
    other = copy.copy(module)
    other._modules = dict(module._modules)
    return other


def in_dtype(module: Module, dtype: torch.dtype) -> Module:
    """The same module, for whose products everything is cast to `dtype`; its weights stay."""
    if not module._modules:
        return module
    other = shell(module)
    if "dtype" in vars(other):
        vars(other)["dtype"] = dtype
    for name, child in module._modules.items():
        other._modules[name] = None if child is None else in_dtype(child, dtype)
    return other
