"""The results by name, and how one of them becomes arrays on the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from materials import Materials
from torch import Tensor

Made = Any  # an array, a tensor, or a mapping or sequence of such, as deep as one likes
ResultFn = Callable[[Materials], Made]

RESULTS: dict[str, ResultFn] = {}


def result(name: str) -> Callable[[ResultFn], ResultFn]:
    """Enters a function under the name that it has in the table."""

    def enter(function: ResultFn) -> ResultFn:
        if name in RESULTS:
            raise ValueError(f"two results are called {name}")
        RESULTS[name] = function
        return function

    return enter


def save(folder: Path, name: str, made: Made) -> int:
    """Writes a file for each array, named after where it was; returns how many."""
    if isinstance(made, Mapping):
        return sum(save(folder, f"{name}.{key}", part) for key, part in made.items())
    if isinstance(made, (list, tuple)):
        return sum(save(folder, f"{name}.{number}", part) for number, part in enumerate(made))
    array = made.detach().cpu().contiguous().numpy() if isinstance(made, Tensor) else made
    np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
    return 1
