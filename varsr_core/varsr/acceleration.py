"""Other ways to run a model: its arithmetic compiled, recorded, or with weights in 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType

import torch
from torch import Tensor, nn

from ..files.lazy_tensor import StateDict
from ..nn.attention import Attend, CachedAttention
from ..nn.float8 import FLOAT8, Float8Linear, store_in_float8, widened
from ..nn.kv_cache import allocate
from ..nn.layer_list import LayerList
from ..nn.shells import shell
from ..runtime.compile import Compiler
from ..runtime.cuda_graphs import Recorder
from .model import VARSR
from .pointwise import PLAIN, Pointwise
from .transformer import Block, BlocksFn, run_blocks
from .weights import build_model, size_tensors

# Recorded is a block of tiles whose largest map has at most so many tokens in all rows: four guided
# tiles of the released model, sixteen of the built-in one. Starting the 46 kernels of a transformer
# block takes as long as their work on some 1,500 tokens (counted, not measured): of four tiles most
# scales have fewer, and gain; of more tiles hardly one, but their caches, a gigabyte a tile, would
# stay allocated from run to run.
RECORDED_TOKENS = 8192


@dataclass(frozen=True)
class AcceleratedBlocks:
    """A BlocksFn: the blocks with other arithmetic, or from recordings, one for each scale.

    between:  what runs between the matrix products
    recorder: None where nothing is recorded
    """

    between: Pointwise = PLAIN
    recorder: Recorder | None = None

    def __call__(
        self,
        blocks: LayerList[Block],
        x: Tensor,
        modulation: Tensor,
        attend: Attend,
        rope: Tensor,
        keep: int,
    ) -> Tensor:
        """As run_blocks."""

        def run(x: Tensor, modulation: Tensor, rope: Tensor) -> Tensor:
            return run_blocks(blocks, x, modulation, attend, rope, keep, self.between)

        # Of another `attend` a recording would not know what else it reads.
        if self.recorder is None or not isinstance(attend, CachedAttention):
            return run(x, modulation, rope)
        cache = attend.cache
        return self.recorder.run(
            run, (x, modulation, rope), blocks, (cache.length, keep, self.between), cache.storage
        )


@dataclass(frozen=True)
class _Recorded:
    """What else of a model uses its recorder.

    rows: of the largest block that is recorded
    """

    recorder: Recorder
    rows: int

    def allocate(
        self, shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, object]:
        """An Allocate, of caches (2, layers, R, ...)."""
        if shape[2] <= self.rows:
            return self.recorder.workspace(shape, dtype, device)
        self.recorder.forget()  # the memory may be wanted for so many
        return allocate(shape, dtype, device)

    def run_part(
        self,
        work: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        part: nn.Module,
        tokens: int,
        key: Hashable,
    ) -> Tensor:
        """A RunFn."""
        if tokens > RECORDED_TOKENS:
            return work(*inputs)
        return self.recorder.run(work, inputs, part, (type(part), key))


def accelerated(
    model: VARSR, *, compiler: Compiler | None = None, recorder: Recorder | None = None
) -> VARSR:
    """The same model run another way. Shares every layer and weight with `model`, now and later.

    `model` itself stays as it is. What a host does to its layers (move, patch, offload) it does to
    both.
    """
    run = model.transformer.run_blocks
    blocks = run if isinstance(run, AcceleratedBlocks) else AcceleratedBlocks()
    if compiler is not None:
        compiled = (compiler(getattr(PLAIN, part.name)) for part in fields(Pointwise))
        blocks = replace(blocks, between=Pointwise(*compiled))
    if recorder is not None:
        blocks = replace(blocks, recorder=recorder)
    return _run_by(blocks, model)


def _run_by(blocks: BlocksFn, model: VARSR) -> VARSR:
    other, transformer = shell(model), shell(model.transformer)
    transformer.run_blocks = blocks
    if isinstance(blocks, AcceleratedBlocks) and blocks.recorder is not None:
        rows = RECORDED_TOKENS // model.config.last_tokens
        recorded = _Recorded(blocks.recorder, rows)
        other.run_part, transformer.allocate = recorded.run_part, recorded.allocate
    other.transformer = transformer
    return other


def in_float8(
    weights: StateDict,
    like: VARSR,
    operations: ModuleType = nn,
    layer: type[Float8Linear] = Float8Linear,
) -> VARSR:
    """A model whose blocks, of transformer and refiner, hold their weights in 8 bits.

    All that comes before and behind them, e.g. the head, is small and stays as it is: there the
    rounding would show most.

    weights: under our names
    like:    a model of these sizes, for dtype, attention, fingerprint, defaults; run as it is, too
    layer:   what takes the place of the blocks' linear layers
    """
    model = _built(weights, like, operations)
    with torch.inference_mode(False):
        store_in_float8(model.transformer.blocks, layer)
        store_in_float8(model.refiner.blocks, layer)
    return _run_by(like.transformer.run_blocks, model)


def rebuilt(
    weights: StateDict,
    like: VARSR,
    operations: ModuleType = nn,
    layer: type[Float8Linear] = Float8Linear,
) -> VARSR:
    """A model of its own that is like another: layers are not shared, weights are where they can.

    weights, like, operations, layer: as in in_float8()
    """
    if is_in_float8(like):
        return in_float8(widened(weights), like, operations, layer)
    return _run_by(like.transformer.run_blocks, _built(weights, like, operations))


def _built(weights: StateDict, like: VARSR, operations: ModuleType) -> VARSR:
    return build_model(
        {**weights, **size_tensors(like.config)},
        dtype=like.dtype,
        wide_dtype=like.tokenizer_dtype,
        attention=like.transformer.attention,
        operations=operations,
        fingerprint=like.fingerprint,
        defaults=like.defaults,
    )


def is_in_float8(model: VARSR) -> bool:
    return any(weight.dtype == FLOAT8 for weight in model.transformer.parameters())


def is_recorded(model: VARSR) -> bool:
    """Whether it may run from recordings, in which nothing is called that could be counted."""
    blocks = model.transformer.run_blocks
    return isinstance(blocks, AcceleratedBlocks) and blocks.recorder is not None
