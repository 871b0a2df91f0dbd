"""What stands for CUDA graphs on a CPU: like them it keeps addresses, and does the same again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from varsr_core.runtime.cuda_graphs import Recorder


class Tape(TorchDispatchMode):
    """All operations of some work, to be done again on the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        draws = torch.Tag.nondeterministic_seeded in func.tags
        # A graph would draw the same numbers at each replay. Attention might, for its dropout.
        assert not draws or "attention" in func.name(), f"{func} within a recording"
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        for func, args, kwargs, made in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Tapes:
    """How a Recorder records; made, recordings: how often, by all of them."""

    made = recordings = 0

    def __init__(self) -> None:
        Tapes.made += 1

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        with Tape() as tape:
            output = work()
        output.fill_(torch.nan)  # as with a graph, nothing has run yet
        Tapes.recordings += 1
        return tape.replay, output


def taping(device: str = "cpu") -> Recorder:
    from varsr_core.runtime.cuda_graphs import Recorder  # ComfyUI has it under another name

    Tapes.made = Tapes.recordings = 0
    return Recorder(Tapes, device=device)
