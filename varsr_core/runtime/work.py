"""How much work there is, counted before it is done, and where it stands while it is.

A family says what its steps are made of (`work.py` in its folder): which modules are called, and
how many products of two numbers each call takes. Nothing is counted inside networks: they are told
of by hooks on these modules, which are there only while a piece of work is done, run between calls
and read no tensor. So a GPU need not be waited for, and nothing compiled or recorded is broken up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from .progress import Stage

# Products that could be taken in the time that one kernel needs to be started: what few tokens cost
# however few they are. On a GPU, whose kernels are started by a CPU, they are far more.
LAUNCH = 10**6
LAUNCH_ON_GPU = 4 * 10**8
PIXELS_A_LAUNCH = 200  # of a finished picture, which the CPU goes through in the same time


@dataclass(frozen=True)
class Calls:
    """Calls of a module, of equal work.

    module:   whose calls are counted as they end; None for work that nobody is told of on the way
    products: multiplications of one call, for one tile
    launches: kernels of one call
    count:    of calls
    """

    module: nn.Module | None
    products: int
    launches: int = 0
    count: int = 1

    def units(self, device_type: str) -> int:
        """Of one call."""
        if device_type == "cpu":
            return self.products + self.launches * LAUNCH
        return max(self.products, self.launches * LAUNCH_ON_GPU)  # started while others run


@dataclass(frozen=True)
class Task:
    """Work on one tile, or on what else is done at once.

    parts: in any order
    """

    stage: Stage
    parts: Sequence[Calls] = ()

    def units(self, device_type: str) -> int:
        """At least one, so that no work is without an end."""
        return max(1, sum(part.count * part.units(device_type) for part in self.parts))


def on_pixels(count: int) -> Calls:
    """Work of the CPU on a picture of so many pixels."""
    return Calls(None, 0, launches=count // PIXELS_A_LAUNCH)


@contextmanager
def followed(parts: Sequence[Calls], tell: Callable[[Calls], None]) -> Iterator[None]:
    """While the context lasts, each call of a part's module by this thread is told of at its end.

    tell: may raise, which ends the work
    """
    thread = threading.get_ident()  # another may run the same model

    def hook(part: Calls) -> Callable[..., None]:
        def called(*_: object) -> None:
            if threading.get_ident() == thread:
                tell(part)

        return called

    handles = []
    try:
        for part in parts:
            if part.module is not None:
                handles.append(part.module.register_forward_hook(hook(part)))
        yield
    finally:
        for handle in handles:
            handle.remove()
