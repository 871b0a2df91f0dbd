"""What only a graphics card has, behind one object. The rehearsal has another one, for a CPU."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from tools.benchmarks.ceilings import ON_GPU, CeilingSizes
from tools.random_checkpoint import RELEASED, Sizes
from varsr_core.runtime.compile import Compiler
from varsr_core.runtime.cuda_graphs import Recorder
from varsr_core.tiling.consistency import TILING_MODES

GUIDANCE = 6.0  # the paper's; the model that comes with the pack is guided for what it shows
ATTENTION = re.compile(r"flash|fmha|attention|sdpa|scaled_dot_product", re.IGNORECASE)


@dataclass(frozen=True)
class Amount:
    """How much is run.

    released: sizes of the model of full size; ceiling: of products that show what the chip can do
    default:  whether the model that comes with the pack is run, too
    modes:    of tiling; guidances: that pictures are made with
    batches:  tiles at once; rounds: of a timing
    photographs: how many are restored, and of each a corner of `side` pixels
    few_tiles, many_tiles: sides of pictures that are six and twenty tiles of the smallest model
    enlarged: how much larger ComfyUI makes a photograph
    limits:   of memory, in bytes: of the process on a card, of all that is made in a rehearsal
    """

    released: Sizes = RELEASED
    ceiling: CeilingSizes = ON_GPU
    default: bool = True
    modes: Sequence[str] = TILING_MODES
    guidances: Sequence[float] = (0.0, GUIDANCE)
    batches: Sequence[int] = (1, 4, 16)
    photographs: int = 4
    side: int = 128
    few_tiles: tuple[int, int] = (28, 40)
    many_tiles: tuple[int, int] = (52, 64)
    rounds: int = 10
    enlarged: float = 4.0
    limits: Sequence[float] = (8e9, 6e9, 3e9)


@dataclass
class Memory:
    """peak: bytes that some work took at most, beside what was there before it."""

    peak: int = 0


@dataclass(frozen=True)
class Profile:
    """One run of some work.

    kernels, copies: how many were started
    busy, seconds:   while any of them ran, and from beginning to end
    attention:       names of what attended
    """

    kernels: int
    copies: int
    busy: float
    seconds: float
    attention: list[str] = field(default_factory=list)


class Chip(ABC):
    """What networks run on.

    device:   where they run; drawn_on: where their random weights are made
    amount:   how much is run
    comfyui:  what a ComfyUI is started with; lacks: what is not had, of ways to be faster there
    """

    device: torch.device
    drawn_on: torch.device
    amount: Amount
    comfyui: Sequence[str] = ()
    lacks: Sequence[str] = ()

    @abstractmethod
    def facts(self) -> dict[str, object]:
        """What it is, and what drives it."""

    @abstractmethod
    def wait(self) -> None:
        """Until all work is done."""

    @abstractmethod
    def free(self) -> None:
        """Gives back memory that is held and not used."""

    @abstractmethod
    def memory(self, limit: float | None = None) -> AbstractContextManager[Memory]:
        """Measures what is done while it lasts; beyond `limit` bytes it runs out of memory."""

    @abstractmethod
    def recorder(self, short: int = 0) -> Recorder:
        """Of CUDA graphs. short: how many first recordings find no memory"""

    @abstractmethod
    def compiler(self) -> Compiler: ...

    @abstractmethod
    def profile(self, work: Callable[[], object]) -> Profile:
        """Runs some work once."""

    def seconds(self, work: Callable[[], object]) -> float:
        """Of one run, to its end."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started
