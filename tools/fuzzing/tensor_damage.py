"""Damage to the tensors of a model, and to what a pickle holds beside them."""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

SIZES = ("schedule", "norm_groups", "lvl_1L", "scale_mul_1H11", "query_scale", "lfq", "mask")
NUMBERS = (0, 1, -1, 2, 3, 5, 7, 31, 33, 64, 1000, 2**31, 2**40, 2**62, -(2**63), 0.5, 1e30,
           math.nan, math.inf, True, False)  # fmt: skip
CASTS = (torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64,
         torch.int32, torch.int8, torch.uint8, torch.bool)  # fmt: skip


def _name(rng: random.Random, tensors: Tensors) -> str:
    """One that tells a size a third of the time: they are few, and matter."""
    telling = [name for name in tensors if any(word in name for word in SIZES)]
    return rng.choice(telling if telling and rng.random() < 0.35 else list(tensors))


def _missing(rng: random.Random, tensors: Tensors) -> None:
    if rng.random() < 0.3:  # a whole part
        start = _name(rng, tensors).split(".")[0]
        for name in [name for name in tensors if name.startswith(start)]:
            del tensors[name]
    else:
        del tensors[_name(rng, tensors)]


def _renamed(rng: random.Random, tensors: Tensors) -> None:
    name = _name(rng, tensors)
    odd = (name + "2", name.upper(), name.replace(".", "_"), "", "\0", "é" * 300, "a.b", "0",
           name.replace("0", "00"), name.replace("0", "1"), name[:-1])  # fmt: skip
    tensors[rng.choice(odd)] = tensors.pop(name)


def _extra(rng: random.Random, tensors: Tensors) -> None:
    name = _name(rng, tensors)
    more = (name + ".more", name.replace(".0.", ".77."), "state", "first_stage_model.x")
    tensors[rng.choice(more)] = rng.choice((tensors[name], torch.zeros(1), torch.zeros(0)))


def _swapped(rng: random.Random, tensors: Tensors) -> None:
    first, second = _name(rng, tensors), _name(rng, tensors)
    tensors[first], tensors[second] = tensors[second], tensors[first]


def _shape(rng: random.Random, tensors: Tensors) -> None:
    name = _name(rng, tensors)
    tensor = tensors[name]
    made: list[Callable[[], Tensor]] = [
        tensor.flatten,
        lambda: tensor[None],
        lambda: tensor.new_zeros(()),
        lambda: tensor.new_zeros(0),
        lambda: tensor.new_zeros((0, *tensor.shape[1:])),
        lambda: tensor.mT.contiguous() if tensor.dim() > 1 else tensor[:-1],
        lambda: torch.cat((tensor, tensor)) if tensor.dim() else tensor,
        lambda: tensor[: len(tensor) // 2] if tensor.dim() else tensor,
        lambda: tensor.new_zeros(rng.choice((1, 7, 63)), *tensor.shape[1:]),
        lambda: tensor.new_zeros(*tensor.shape[:-1], rng.choice((1, 3, 65))),
        lambda: tensor.new_zeros([1] * rng.choice((5, 9, 33))),
    ]
    tensors[name] = rng.choice(made)().contiguous().clone()


def _cast(rng: random.Random, tensors: Tensors) -> None:
    names = list(tensors) if rng.random() < 0.3 else [_name(rng, tensors)]
    dtype = rng.choice(CASTS)
    for name in names:
        tensors[name] = tensors[name].to(dtype)


def _value(rng: random.Random, tensors: Tensors) -> None:
    """One value, or all, of one tensor."""
    name = _name(rng, tensors)
    values = tensors[name].clone().reshape(-1)
    value = rng.choice((math.nan, math.inf, -math.inf, 1e38, -1e30, 1e20, 7e4, 1e-40, 0, -1, 2**40))
    if values.is_floating_point():
        where = (
            slice(None) if rng.random() < 0.3 else slice(rng.randrange(len(values)), None, 10**9)
        )
        values[where] = value
    elif math.isfinite(value) and abs(value) < 2**62:
        values[rng.randrange(len(values))] = int(value)
    tensors[name] = values.reshape(tensors[name].shape)


def _huge(rng: random.Random, tensors: Tensors) -> None:
    """Finite weights whose products are not."""
    factor = 10.0 ** rng.choice((4, 8, 16, 30, 37))
    chosen = rng.sample(list(tensors), k=min(len(tensors), rng.choice((1, 5, 10**6))))
    for name in chosen:
        if tensors[name].is_floating_point():
            tensors[name] = tensors[name] * factor


def _sizes(rng: random.Random, tensors: Tensors) -> None:
    """What the shapes of weights do not tell, as nobody can have it."""
    name = rng.choice(("schedule", "norm_groups", _name(rng, tensors)))
    count = rng.choice((0, 1, 1, 3, 4, 8, 20))
    numbers = [rng.choice(NUMBERS) for _ in range(count)]
    if rng.random() < 0.5:  # of one kind, so that it is no float
        numbers = [int(one) for one in numbers if math.isfinite(one) and abs(one) < 2**62]
        numbers = sorted(numbers) if rng.random() < 0.5 else numbers
    made = torch.tensor(numbers if count != 1 else numbers[0] if numbers else 0)
    tensors[name] = made.to(torch.float32) if made.dtype == torch.float64 else made


TENSOR_DAMAGE = {
    "missing": _missing, "renamed": _renamed, "extra": _extra, "swapped": _swapped,
    "shape": _shape, "cast": _cast, "value": _value, "huge": _huge, "sizes": _sizes,
}  # fmt: skip


def odd_tensors(rng: random.Random, tensors: Tensors) -> None:
    """Kinds of tensors that only a pickle can hold."""
    name = _name(rng, tensors)
    tensor = tensors[name]
    made: list[Callable[[], Tensor]] = [
        lambda: tensor.to(torch.complex64),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        tensor.to_sparse,
        lambda: tensor.to("meta"),
        lambda: torch.zeros(1).expand(2 ** rng.choice((20, 33, 40))),
        lambda: torch.zeros(1).expand(tensor.shape),
        lambda: torch.nn.Parameter(tensor.float()),
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        lambda: tensor.float().conj(),
        lambda: tensor[..., None].mT,
    ]
    tensors[name] = rng.choice(made)()


class Runs:
    """Does something when it is unpickled."""

    def __init__(self, call: Callable[..., Any], *given: Any) -> None:
        self.call, self.given = call, given

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.given


def _shared(rng: random.Random, _: Path) -> Any:
    made: Any = {}
    for _ in range(rng.choice((5, 31, 60, 500))):
        made = rng.choice((dict, OrderedDict))(a=made, b=made)
    return made


def _within_itself(rng: random.Random, _: Path) -> Any:
    first: Any = {"weight": torch.zeros(1)}
    second: Any = rng.choice(({}, []))
    first["self"] = first["other"] = second
    second.append(first) if isinstance(second, list) else second.update(first=first)
    return first


def _deep(rng: random.Random, _: Path) -> Any:
    made: Any = {}
    for _ in range(rng.choice((30, 40, 300))):
        made = rng.choice(({"a": made}, [made], (made,)))
    return made


def _wide(rng: random.Random, _: Path) -> Any:
    return {str(number): {} for number in range(rng.choice((10, 1000, 120_000)))}


def _running(rng: random.Random, canary: Path) -> Any:
    place = str(canary)
    return rng.choice((
        Runs(os.system, f"echo > {place}"),
        Runs(open, place, "w"),
        Runs(eval, f"open({place!r}, 'w')"),
        Runs(exec, f"open({place!r}, 'w')"),
        Runs(Path.touch, Path(place)),
        Runs(os.mkdir, place),
        Runs(subprocess.check_call, ["touch", place]),
        Runs(torch.save, {}, place),
        Runs(getattr, Path, "touch"),
    ))  # fmt: skip


def _objects(rng: random.Random, _: Path) -> Any:
    return rng.choice((
        argparse.Namespace(width=3), {1, 2}, b"\0" * 100, 10**400, print, Path("a"), 1j, range(9),
        torch.Size([1]), torch.device("cpu"), torch.float32, torch.Generator(), [None] * 1000,
        {1: torch.zeros(1), None: 2, (1, 2): 3, math.nan: 4, b"a": 5}, "x" * 10**6, (), None,
    ))  # fmt: skip


HELD_BESIDE = {  # by a pickle: -> made of (rng, where it must not write)
    "shared dictionaries": _shared, "holds itself": _within_itself, "deep": _deep, "wide": _wide,
    "runs something": _running, "other objects": _objects,
}  # fmt: skip
