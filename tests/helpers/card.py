"""A pretended card: tensors that say they lie on a device "card", worked on by the CPU.

It computes, so results can be compared with the CPU's. What a real card would refuse is refused:
arithmetic on tensors of both devices, and float64, which not every card has. What makes a program
wait for a card is counted: copies from and to it, and looking at what lies there. A copy from
page-locked memory waits for nothing; what is copied to it is NaN until its event was waited for.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from varsr_core.runtime import transfer

CORE = str(Path(__file__).resolve().parents[2] / "varsr_core")
COPIES = ("aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::_copy_from_and_resize")
LOOKS = (  # whose result depends on values, or is one
    *("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"),
    *("aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::is_nonzero"),
)
INDEXING = ("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_")


# What is on its way from the card: where it goes, and what it will be there.
on_the_way: list[tuple[Tensor, Tensor]] = []
asked: list[Card] = []  # the innermost last


class Event:
    """Of all that was queued before it."""

    def record(self, stream: object) -> None:
        self.before = list(on_the_way)

    def synchronize(self) -> None:
        asked[-1].waits[f"event {_line()}"] += 1
        with _disable_current_modes():
            for place, values in self.before:
                place.copy_(values)
        on_the_way[:] = [one for one in on_the_way if not any(one is told for told in self.before)]
        self.before.clear()


class Module(_DummyBackendModule):
    """torch.card"""

    Event = Event

    @staticmethod
    def current_stream(_: torch.device) -> None:
        return None

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        """Is asked of every device there is, also while another one trains."""
        return [torch.float16, torch.bfloat16]


@cache
def device() -> torch.device:
    """Registers it, once in a process."""
    _setup_privateuseone_for_python_backend("card", Module())
    return torch.device("card:0")


class OnCard(Tensor):
    """inside: the CPU's tensor that it stands for"""

    inside: Tensor

    @staticmethod
    def __new__(cls, inside: Tensor) -> OnCard:
        made = Tensor._make_wrapper_subclass(
            cls,
            inside.size(),
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=device(),
        )
        made.inside = inside
        return made

    def __repr__(self, **_: Any) -> str:
        return f"OnCard({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class Card(TorchDispatchMode):
    """What is asked of the card.

    launches: kernels, by their names
    waits:    what was waited for, by the name of the operation and the line of the core
    copies:   to the card, without a wait, by the line of the core
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.locked: list[Tensor] = []  # page-locked memory

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = _run(func, args, kwargs)
        if func._schema.name == "aten::_to_copy" and kwargs.get("non_blocking"):
            if isinstance(args[0], OnCard) and not isinstance(result, OnCard):
                on_the_way.append((result, result.clone()))
                result.fill_(torch.nan)
                return result
            if isinstance(result, OnCard) and self._is_locked(args[0]):
                self.copies[_line()] += 1
                return result
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        made = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        if any(isinstance(one, OnCard) for one in (*given, *made)):
            self._count(func, given, made)
        return result

    def _count(self, func: Any, given: Sequence[Tensor], made: Sequence[Tensor]) -> None:
        name = func._schema.name
        crossing = name in COPIES and len({isinstance(one, OnCard) for one in (*given, *made)}) > 1
        # Indices that lie off the card are brought to it first.
        brings = name in INDEXING and any(
            not isinstance(one, OnCard) and one.dim() > 0 for one in given
        )
        if crossing or brings or name in LOOKS:
            self.waits[f"{name} {_line()}"] += 1
        elif not _is_view(func) and "empty" not in name:
            self.launches[name] += 1

    def lock(self, tensor: Tensor) -> Tensor:
        self.locked.append(tensor.clone())
        return self.locked[-1]

    def _is_locked(self, tensor: Tensor) -> bool:
        place = tensor.untyped_storage().data_ptr()
        return any(one.untyped_storage().data_ptr() == place for one in self.locked)


class _Functions(TorchFunctionMode):
    """What torch does without asking dispatch modes: Python's numbers come to a card by way of the
    CPU, attention is one kernel, and memory can be locked."""

    def __init__(self, counted: Card) -> None:
        super().__init__()
        self.counted, self.launches = counted, counted.launches

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        target = kwargs.get("device")
        if func is Tensor.pin_memory:
            return self.counted.lock(args[0])
        if func in (torch.tensor, torch.as_tensor) and target is not None:
            return func(*args, **{**kwargs, "device": "cpu"}).to(target)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[1], list):
            args = args[0], torch.tensor(args[1]), *args[2:]
        if func is F.scaled_dot_product_attention and isinstance(args[0], OnCard):
            self.launches["attention"] += 1
            inside, named = tree_map(_inside, (args, kwargs))
            with _disable_current_modes():
                return OnCard(func(*inside, **named))
        return func(*args, **kwargs)


@contextmanager
def card() -> Iterator[Card]:
    """While it lasts, "card" is a device; what it yields counts."""
    device()
    counted = Card()
    alone = patch.object(transfer, "ALONE", [*transfer.ALONE, "card"])
    asked.append(counted)
    try:
        with _plain_inference_mode(), _Functions(counted), counted, alone:
            yield counted
    finally:
        asked.pop()


@contextmanager
def _plain_inference_mode() -> Iterator[None]:
    """Tensors of a class of their own cannot be indexed in torch's inference mode."""
    kept: list[bool] = []

    def enter(self: Any) -> None:
        kept.append(torch.is_grad_enabled())
        torch.set_grad_enabled(not self.mode and kept[-1])

    def leave(self: Any, *_: object) -> None:
        torch.set_grad_enabled(kept.pop())

    with (
        patch.object(torch.inference_mode, "__enter__", enter),
        patch.object(torch.inference_mode, "__exit__", leave),
    ):
        yield


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name = func._schema.name
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, OnCard)]
    if there and name not in COPIES:
        # A number may come from anywhere, and indices are brought along.
        rest = [one for one in tensors if not isinstance(one, OnCard) and one.dim() > 0]
        if rest and name not in INDEXING:
            raise RuntimeError(f"{name} of tensors on the card and off it, at {_line()}")
    target = kwargs.get("device")
    goes_there = bool(there) if target is None else torch.device(target).type == "card"
    if target is not None:
        kwargs = {**kwargs, "device": "cpu", "pin_memory": False}
    if name == "aten::copy_":
        goes_there = isinstance(args[0], OnCard)
    given = tree_map(_inside, (args, kwargs))
    result = func(*given[0], **given[1])
    known = {id(one.inside): one for one in there}

    def place(one: Any) -> Any:
        if not isinstance(one, Tensor) or not goes_there:
            return one
        if id(one) in known:
            return known[id(one)]  # written in place
        if one.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"{name} makes {one.dtype} on the card, at {_line()}")
        return OnCard(one)

    return tree_map(place, result)


def _inside(value: Any) -> Any:
    return value.inside if isinstance(value, OnCard) else value


def _is_view(func: Any) -> bool:
    returned = func._schema.returns
    return any(one.alias_info is not None and not one.alias_info.is_write for one in returned)


def _line() -> str:
    """Of the core, nearest to what is done, but of whoever asks for a transfer."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(CORE) and frame.filename != transfer.__file__:
            return f"{frame.filename[len(CORE) + 1 :]}:{frame.lineno}"
    return "elsewhere"
