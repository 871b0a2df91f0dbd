"""Which dtype a model is loaded in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from ..errors import InputError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
DTYPE_CHOICES = ("auto", *DTYPES)

NEAREST = (torch.float16, torch.bfloat16, torch.float32)
"""What `auto` tries in turn: of two that are as fast, float16 rounds an eighth as much."""
RANGE = (torch.bfloat16, torch.float16, torch.float32)
"""The same for models that were only run in bf16, whose numbers may be too large for float16."""


def named_dtype(choice: str) -> torch.dtype | None:
    """The dtype of a user's choice; None for `auto`. Raises InputError for any other word."""
    if choice not in DTYPE_CHOICES:
        raise InputError(f"dtype {choice!r} is none of {', '.join(DTYPE_CHOICES)}")
    return DTYPES.get(choice)


def choose(order: Sequence[torch.dtype], fast: Collection[torch.dtype]) -> torch.dtype:
    """What `auto` stands for: the first of `order` that a device computes fast, else float32."""
    return next((dtype for dtype in order if dtype in fast), torch.float32)


def wide(fast: Collection[torch.dtype]) -> torch.dtype:
    """In which what float16 cannot hold is computed, on a device that is fast in these."""
    return torch.bfloat16 if torch.bfloat16 in fast else torch.float32


def fast_on_cpu() -> set[torch.dtype]:
    """bf16 only where the CPU multiplies it in hardware; without that it is slower than float32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    has_bf16 = any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    return {torch.bfloat16} if has_bf16 else set()
