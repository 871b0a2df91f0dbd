"""In which dtype ComfyUI's device is to compute."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.model_management as mm
import torch

from ..varsr_core.runtime.dtypes import choose, fast_on_cpu, named_dtype, wide


def pick_dtype(choice: str, order: Sequence[torch.dtype]) -> torch.dtype:
    """The dtype for a user's choice; order: what `auto` tries."""
    # older versions of ComfyUI do not check the choice
    return named_dtype(choice) or choose(order, _fast_dtypes())


def wide_dtype() -> torch.dtype:
    """In which what float16 cannot hold is computed on the device."""
    return torch.float32 if mm.is_device_cpu(mm.get_torch_device()) else wide(_fast_dtypes())


def _fast_dtypes() -> set[torch.dtype]:
    """Of 16 bits, those that the device computes fast and safely, as ComfyUI knows it."""
    if mm.is_device_cpu(mm.get_torch_device()):
        return fast_on_cpu()
    asked = {torch.float16: mm.should_use_fp16, torch.bfloat16: mm.should_use_bf16}
    return {dtype for dtype, should_use in asked.items() if should_use(mm.get_torch_device())}
