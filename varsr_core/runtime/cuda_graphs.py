"""Work on a GPU recorded once as a CUDA graph, then replayed: one launch in place of hundreds.

A graph holds addresses, not tensors. The address of everything that it reads or writes is therefore
part of what it is found by, or is a place of its own, to which inputs are copied and which stays
from run to run. Where weights change in place, a graph reads the new ones; when the memory of one
is freed, because a host moves weights or unloads a model, all recordings and places go with it.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from . import kept
from .execution import is_out_of_memory

logger = logging.getLogger(__name__)

GRAPHS = 64  # kept at most; a run of the released model has twelve, for each number of tiles
Work = Callable[..., Tensor]  # of tensors
# Records work on tensors that stay where they are: what replays it, and where its result is.
RecordFn = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


@dataclass
class _Graph:
    inputs: list[Tensor]
    replay: Callable[[], None]
    output: Tensor


class _Lent:
    """Kept by all who use the workspace."""


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
        kept.keeps(self)

    @property
    def recordings(self) -> int:
        return len(self._made())

    def kept_bytes(self, device: torch.device) -> int:
        """What lies on a device. What graphs need between, torch counts as unused already."""
        places = [place for graph in self._made() for place in (*graph.inputs, graph.output)]
        held = places if self._memory is None else [self._memory, *places]
        return sum(tensor.nbytes for tensor in held if tensor.device == device)

    def forget(self) -> None:
        """Gives all recordings up, and the memory they hold."""
        self._graphs: OrderedDict[Hashable, _Graph | None] = OrderedDict()
        self._memory: Tensor | None = None
        self._lent: weakref.ref[_Lent] | None = None
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._record = self._make()

    def workspace(
        self, shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, object]:
        """Memory that recordings may read and write, at the same place in each run; not cleared.

        With it comes what its users keep: until that is gone, others get other memory, and what
        they do is not recorded. A smaller one than before is a part of the same memory; for a
        larger one, and on another device, recordings begin anew.
        """
        size = math.prod(shape) * dtype.itemsize
        in_use = self._lent is not None and self._lent() is not None
        if self.broken or device.type != self._device or in_use:
            return torch.empty(shape, dtype=dtype, device=device), None
        memory = self._memory
        if memory is None or memory.nbytes < size or memory.device != device:
            if memory is not None:
                self.forget()
            with torch.inference_mode(False):  # to be used in every mode
                memory = self._memory = torch.empty(size, dtype=torch.uint8, device=device)
        lent = _Lent()
        self._lent = weakref.ref(lent)
        return memory[:size].view(dtype).view(tuple(shape)), lent

    def run(
        self,
        work: Work,
        inputs: Sequence[Tensor],
        weights: nn.Module,
        key: Hashable,
        workspace: Tensor | None = None,
    ) -> Tensor:
        """work(*inputs), which does always the same for the same arguments but the first.

        inputs:    may lie anywhere; copied before a replay
        weights:   that the work reads
        key:       all else the work depends on
        workspace: from workspace(), or its first part, that the work reads and writes; with memory
                   from elsewhere the work is not recorded
        returns    a tensor of its own, that no replay writes to
        """
        if self.broken or not self._owns(workspace):
            return work(*inputs)
        tensors = [*_weights(weights)]
        sizes = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs)
        kind = None if workspace is None else (workspace.shape, workspace.stride(), workspace.dtype)
        key = key, sizes, kind, tuple(tensor.data_ptr() for tensor in tensors)
        graph = self._graphs.get(key)
        if graph is None:  # else the weights lie where they did
            if any(tensor.device.type != self._device for tensor in (*inputs, *tensors)):
                return work(*inputs)
            if key not in self._graphs:
                self._graphs[key] = None
                while len(self._graphs) > GRAPHS:
                    self._graphs.popitem(last=False)
                return work(*inputs)
        with torch.inference_mode():  # as recorded, whatever mode the caller is in
            graph = graph or self._try(work, inputs, tensors, key)
            if graph is not None:
                if key in self._graphs:  # if it was not given up right now
                    self._graphs.move_to_end(key)
                for place, given in zip(graph.inputs, inputs, strict=True):
                    place.copy_(given)
                graph.replay()
        return work(*inputs) if graph is None else graph.output.clone()

    def _made(self) -> list[_Graph]:
        return [graph for graph in self._graphs.values() if graph is not None]

    def _owns(self, workspace: Tensor | None) -> bool:
        if workspace is None:
            return True
        return self._memory is not None and workspace.data_ptr() == self._memory.data_ptr()

    def _try(
        self, work: Work, inputs: Sequence[Tensor], weights: Sequence[Tensor], key: Hashable
    ) -> _Graph | None:
        """A recording. None where memory runs out, for which all others are given up, and from the
        first other failure on."""
        try:
            places = [tensor.clone() for tensor in inputs]
            card, where = self._device == "cuda", inputs[0].device
            with torch.cuda.device(where) if card else nullcontext():
                graph = _Graph(places, *self._record(lambda: work(*places)))
        except BaseException as error:
            self.forget()
            if is_out_of_memory(error):
                return None
            if not isinstance(error, RuntimeError):
                raise  # what a caller raises to cancel, above all
            self.broken = True
            logger.warning(
                "CUDA graphs cannot be recorded here, the model runs without them: %s", error
            )
            return None
        self._graphs[key] = graph
        self._watch(weights)
        return graph

    def _watch(self, weights: Sequence[Tensor]) -> None:
        """Forgets everything as soon as the memory of one of them is freed."""
        recorder = weakref.ref(self)  # else it would hold itself, and its memory with it

        def freed(_: object) -> None:
            found = recorder()
            if found is not None:
                found.forget()

        for tensor in weights:
            if tensor.data_ptr() not in self._watched:
                watch = weakref.ref(tensor.untyped_storage(), freed)
                self._watched[tensor.data_ptr()] = watch


def _weights(module: nn.Module) -> Iterator[Tensor]:
    """All parameters and buffers; `parameters()` takes several times as long, for each replay."""
    waiting: list[nn.Module | None] = [module]
    while waiting:
        module_ = waiting.pop()
        if module_ is not None:
            waiting.extend(module_._modules.values())
            for tensor in (*module_._parameters.values(), *module_._buffers.values()):
                if tensor is not None:
                    yield tensor


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """The one on which work is recorded: libraries keep memory for each stream they have seen."""
    return torch.cuda.Stream(device)


class CudaGraphs:
    """Records with torch; recordings share memory, since none runs while another does."""

    def __init__(self) -> None:
        self.pool: Any = None  # torch has no name for its type

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """On the current device."""
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        stream = _side_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()  # what cuBLAS and cuDNN make for this stream must not be part of the recording
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # of what that took, which only this stream could use again
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(stream):
            # What other threads do with the device is allowed meanwhile.
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                output = work()
            except BaseException:
                with suppress(RuntimeError):  # of a recording that the error has made invalid
                    graph.capture_end()
                raise
            graph.capture_end()
        return graph.replay, output
