"""float32 with all of its bits.

NVIDIA's cards from Ampere on multiply float32 numbers as TF32, with 10 bits behind the point in
place of 23, where torch is allowed to: in convolutions by default, in matrix products once any part
of the program has asked for it. The switches belong to the whole process. They are off from the
first of our work that begins, in whatever thread, to the last that ends; then they are as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

import torch

Undo = Callable[[], None]


class _WithoutTF32(ContextDecorator):
    """For work of which the float32 parts are to be exact: `@without_tf32`, `with without_tf32:`"""

    def __init__(self) -> None:
        self._lock, self._running, self._undo = Lock(), 0, list[Undo]()

    def __enter__(self) -> None:
        with self._lock:
            if self._running == 0:
                self._undo = [_convolve_exactly(), _multiply_exactly()]
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0:
                for undo in self._undo:
                    undo()


without_tf32 = _WithoutTF32()


def _convolve_exactly() -> Undo:
    cudnn: Any = torch.backends.cudnn
    operation: Any = getattr(cudnn, "conv", None)  # since torch 2.9, beside the older switch
    allowed = _read(lambda: cudnn.allow_tf32)
    precision = _precision(operation)
    if allowed:
        cudnn.allow_tf32 = False
    if _precision(operation) == "tf32":  # asked for where the older switch does not reach
        operation.fp32_precision = "ieee"

    def undo() -> None:
        if allowed:
            cudnn.allow_tf32 = True
        if precision == "tf32":
            operation.fp32_precision = precision

    return undo


def _multiply_exactly() -> Undo:
    operation: Any = torch.backends.cuda.matmul
    cpu: Any = getattr(torch.backends.mkldnn, "matmul", None)
    asked = _read(torch.get_float32_matmul_precision)
    precision, of_cpu = _precision(operation), _precision(cpu)
    if asked not in (None, "highest"):
        torch.set_float32_matmul_precision("highest")
    if _precision(operation) == "tf32":
        operation.fp32_precision = "ieee"

    def undo() -> None:
        if asked not in (None, "highest"):
            torch.set_float32_matmul_precision(asked)
            if of_cpu is not None:  # which the line before sets, too
                cpu.fp32_precision = of_cpu
        if precision == "tf32":
            operation.fp32_precision = precision

    return undo


def _read(switch: Callable[[], Any]) -> Any:
    """None where a program has used the newer switches in a way that the older cannot tell."""
    try:
        return switch()
    except RuntimeError:
        return None


def _precision(operation: Any) -> str | None:
    return getattr(operation, "fp32_precision", None)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which products keep the dtype of what is multiplied.

    "meta" knows no autocast: who counts there what a GPU would do asks products_as_they_are().
    """
    return _as_they_are() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def products_as_they_are() -> bool:
    """Whether without_autocast() was entered on the meta device."""
    return _unchanged.get()


_unchanged = ContextVar("products_as_they_are", default=False)


@contextmanager
def _as_they_are() -> Iterator[None]:
    before = _unchanged.set(True)
    try:
        yield
    finally:
        _unchanged.reset(before)
