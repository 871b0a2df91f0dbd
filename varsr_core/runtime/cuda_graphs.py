"""Work on a GPU recorded once as a CUDA graph, then replayed: one launch in place of hundreds.

A graph holds addresses, not tensors. The address of everything that it reads or writes is therefore
part of what it is found by, or copied to a place of its own before each replay. Nothing then has to
be told when a host moves weights or unloads a model: they lie elsewhere, and the graphs of the old
places are dropped. Where weights change in place, a graph reads the new ones.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .execution import is_out_of_memory

logger = logging.getLogger(__name__)

GRAPHS = 64  # kept at most; a run of the released model has ten, for each number of tiles
Work = Callable[..., Tensor]  # of tensors
# Records work on tensors that stay where they are: what replays it, and where its result is.
RecordFn = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


@dataclass
class _Graph:
    inputs: list[Tensor]
    replay: Callable[[], None]
    output: Tensor


class Recorder:
    """Runs work from recordings of it, made when it comes by for the second time.

    The first time runs as written: that warms up the libraries, as recording needs, and what comes
    by only once costs no more than before.

    broken: whether recording has failed; all work then runs as written
    """

    def __init__(self, make: Callable[[], RecordFn] | None = None, device: str = "cuda") -> None:
        """make:   how recordings are made, anew after all have been given up
        device: type of the device whose work can be recorded"""
        self._make = make or CudaGraphs
        self._device = device
        self.broken = False
        self.forget()

    @property
    def recordings(self) -> int:
        return sum(graph is not None for graph in self._graphs.values())

    def forget(self) -> None:
        """Gives all recordings up, and the memory they hold."""
        self._graphs: OrderedDict[Hashable, _Graph | None] = OrderedDict()
        self._places: Hashable = None
        self._record = self._make()

    def run(
        self,
        work: Work,
        inputs: Sequence[Tensor],
        weights: Sequence[Tensor],
        workspace: Tensor,
        key: Hashable,
    ) -> Tensor:
        """work(*inputs), which does always the same for the same arguments but the first.

        inputs:    may lie anywhere; copied before a replay
        weights:   that the work reads; where any lies elsewhere than before, all recordings are
                   dropped
        workspace: that the work reads and writes; recordings are made for each that is given
        key:       all else the work depends on
        """
        tensors = *inputs, *weights, workspace
        if self.broken or any(tensor.device.type != self._device for tensor in tensors):
            return work(*inputs)
        places = tuple(tensor.data_ptr() for tensor in weights)
        if places != self._places:
            self.forget()
            self._places = places
        sizes = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        key = key, sizes, workspace.data_ptr(), workspace.shape, workspace.stride()
        if key not in self._graphs:
            self._graphs[key] = None
            while len(self._graphs) > GRAPHS:
                self._graphs.popitem(last=False)
            return work(*inputs)
        graph = self._graphs[key] or self._try(work, inputs, key)
        if graph is None:
            return work(*inputs)
        self._graphs.move_to_end(key)
        for place, given in zip(graph.inputs, inputs, strict=True):
            place.copy_(given)
        graph.replay()
        return graph.output.clone()

    def _try(self, work: Work, inputs: Sequence[Tensor], key: Hashable) -> _Graph | None:
        """A recording, or None from the first failure on."""
        places = [tensor.clone() for tensor in inputs]
        try:
            graph = _Graph(places, *self._record(lambda: work(*places)))
        except Exception as error:
            self.forget()
            if is_out_of_memory(error):
                raise
            self.broken = True
            logger.warning(
                "CUDA graphs cannot be recorded here, the model runs without them: %s", error
            )
            return None
        self._graphs[key] = graph
        return graph


class CudaGraphs:
    """Records with torch; recordings share memory, since none runs while another does."""

    def __init__(self) -> None:
        self.pool: Any = None  # torch has no name for its type

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            output = work()
        return graph.replay, output
