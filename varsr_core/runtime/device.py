"""Where a worker computes, and how: what ComfyUI decides for the nodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import InputError
from .dtypes import NEAREST, choose, fast_on_cpu, named_dtype, wide
from .execution import Execution, halved_to_fit, tiles_at_once
from .kept import kept_bytes
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


def pick_dtype(
    choice: str, device: torch.device, order: Sequence[torch.dtype] = NEAREST
) -> torch.dtype:
    """The dtype for a user's choice; `auto` takes what the nodes take on such a device.

    order: what `auto` tries, see `Family`
    """
    return named_dtype(choice) or choose(order, _fast_dtypes(device))


def wide_dtype(device: torch.device) -> torch.dtype:
    """In which what float16 cannot hold is computed there."""
    return torch.float32 if device.type == "cpu" else wide(_fast_dtypes(device))


def _fast_dtypes(device: torch.device) -> set[torch.dtype]:
    """Of 16 bits, those that a device multiplies faster than float32."""
    if device.type == "cpu":
        return fast_on_cpu()
    if device.type != "cuda" or torch.version.hip:
        return {torch.float16, torch.bfloat16}
    of_gpu = torch.cuda.get_device_properties(device)
    if of_gpu.major >= 8:
        return {torch.float16, torch.bfloat16}
    slow = of_gpu.major < 7 or any(name in of_gpu.name for name in SLOW_HALVES)
    return set() if slow else {torch.float16}


def tiles_on(device: torch.device, tile_bytes: int, weight_bytes: int) -> int:
    """How many tiles to work on at once where memory suffices; see tiles_at_once()."""
    return tiles_at_once(tile_bytes, weight_bytes, _memory(device)[1])


def execution_on(
    device: torch.device, tile_bytes: int, weight_bytes: int, on_progress: ProgressFn = silent
) -> Execution:
    """How the core runs; the model must be on the device already."""
    return Execution(
        device=device,
        prepare=lambda: tiles_on(device, tile_bytes, weight_bytes),
        make_room=lambda tiles: halved_to_fit(tiles, tile_bytes, _room(device)),
        on_progress=on_progress,
        free_memory=torch.cuda.empty_cache if device.type == "cuda" else lambda: None,
    )


def _room(device: torch.device) -> int | None:
    """Bytes for the next run: what is free, and what recordings keep for it; None for a CPU."""
    free = _memory(device)[0]
    return None if free is None else free + kept_bytes(device)


def _is_there(kind: str) -> bool:
    module = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    return module is not None and module.is_available()


def _memory(device: torch.device) -> tuple[int, int] | tuple[None, None]:
    """Bytes that are free, with what torch holds and does not use, and all; None for a CPU."""
    if device.type == "cpu":
        return None, None
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free, card = torch.cuda.mem_get_info(device)
        return free + unused, card
    if device.type == "xpu":
        return torch.xpu.mem_get_info(device)
    most = torch.mps.recommended_max_memory()
    return most - torch.mps.driver_allocated_memory(), most
