"""Where a worker computes, and how: what ComfyUI decides for the nodes."""

from __future__ import annotations

import torch

from ..errors import InputError
from .dtypes import cpu_dtype, named_dtype
from .execution import Execution, tiles_at_once
from .progress import ProgressFn, silent

SLOW_HALVES = ("GTX 16", "T500", "T550", "T600", "MX450", "MX550")  # fp16 of these gives NaN


def pick_device(choice: str) -> torch.device:
    """`auto` takes the first GPU there is. Raises InputError for one that is missing."""
    if choice == "auto":
        found = [kind for kind in ("cuda", "xpu", "mps") if _is_there(kind)]
        return torch.device(found[0] if found else "cpu")
    try:
        device = torch.device(choice)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {choice!r} cannot be used: {error}") from None
    return device


def pick_dtype(choice: str, device: torch.device) -> torch.dtype:
    """The dtype for a user's choice; `auto` takes what the nodes take on such a device."""
    named = named_dtype(choice)
    if named is not None:
        return named
    if device.type == "cpu":
        return cpu_dtype()
    if device.type != "cuda" or torch.version.hip:
        return torch.bfloat16
    of_gpu = torch.cuda.get_device_properties(device)
    if of_gpu.major >= 8:
        return torch.bfloat16
    slow = of_gpu.major < 7 or any(name in of_gpu.name for name in SLOW_HALVES)
    return torch.float32 if slow else torch.float16


def tiles_that_fit(device: torch.device, tile_bytes: int) -> int:
    """How many tiles to work on at once, by the memory that is free now."""
    return tiles_at_once(tile_bytes, _free_bytes(device))


def execution_on(
    device: torch.device, tile_bytes: int, on_progress: ProgressFn = silent
) -> Execution:
    """How the core runs; the model must be on the device already."""
    return Execution(
        device=device,
        prepare=lambda: tiles_that_fit(device, tile_bytes),
        on_progress=on_progress,
        free_memory=torch.cuda.empty_cache if device.type == "cuda" else lambda: None,
    )


def _is_there(kind: str) -> bool:
    module = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    return module is not None and module.is_available()


def _free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU, with what torch holds and does not use; None for a CPU."""
    if device.type == "cpu":
        return None
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "xpu":
        return torch.xpu.mem_get_info(device)[0]
    return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
