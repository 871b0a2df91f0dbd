"""Which dtype a model is loaded in."""

from __future__ import annotations

import torch

from ..errors import InputError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
DTYPE_CHOICES = ("auto", *DTYPES)


def named_dtype(choice: str) -> torch.dtype | None:
    """The dtype of a user's choice; None for `auto`. Raises InputError for any other word."""
    if choice not in DTYPE_CHOICES:
        raise InputError(f"dtype {choice!r} is none of {', '.join(DTYPE_CHOICES)}")
    return DTYPES.get(choice)


def cpu_dtype() -> torch.dtype:
    """bf16 where the CPU multiplies it in hardware; without that it is slower than float32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    has_bf16 = any(getattr(torch.cpu, check, lambda: False)() for check in checks)
    return torch.bfloat16 if has_bf16 else torch.float32
