"""Other ways to run a model: its arithmetic compiled, recorded, or with weights in 8 bits."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..files.lazy_tensor import StateDict
from ..nn.attention import Attend, CachedAttention
from ..nn.float8 import FLOAT8, Float8Linear, store_in_float8
from ..nn.layer_list import LayerList
from ..runtime.compile import Compiler
from ..runtime.cuda_graphs import Recorder
from .model import VARSR
from .pointwise import PLAIN, Pointwise
from .transformer import Block, BlocksFn, run_blocks
from .weights import build_model, size_tensors

# A GPU is busy enough with more than these (rows times tokens); recordings would only hold memory.
RECORDED_TOKENS = 4096

Module = TypeVar("Module", bound=nn.Module)


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
        classes: Tensor,
        attend: Attend,
        rope: Tensor,
        keep: int,
    ) -> Tensor:
        """As run_blocks."""

        def run(x: Tensor, classes: Tensor, rope: Tensor) -> Tensor:
            return run_blocks(blocks, x, classes, attend, rope, keep, self.between)

        few = x.shape[0] * x.shape[1] <= RECORDED_TOKENS
        # Of another `attend` a recording would not know what else it reads.
        if self.recorder is None or not few or not isinstance(attend, CachedAttention):
            return run(x, classes, rope)
        return self.recorder.run(
            run,
            (x, classes, rope),
            [parameter for block in blocks for parameter in block.parameters()],
            attend.cache.storage,
            (attend.cache.length, keep),
        )


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
    other, transformer = _shell(model), _shell(model.transformer)
    transformer.run_blocks = blocks
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
    like:    a model of these sizes, for dtype, attention and fingerprint; run as it is, too
    layer:   what takes the place of the blocks' linear layers
    """
    model = build_model(
        {**weights, **size_tensors(like.config)},
        dtype=like.dtype,
        attention=like.transformer.attention,
        operations=operations,
        fingerprint=like.fingerprint,
    )
    with torch.inference_mode(False):
        store_in_float8(model.transformer.blocks, layer)
        store_in_float8(model.refiner.blocks, layer)
    return _run_by(like.transformer.run_blocks, model)


def is_in_float8(model: VARSR) -> bool:
    return any(weight.dtype == FLOAT8 for weight in model.transformer.parameters())


def _shell(module: Module) -> Module:
    """The same module, but its children can be replaced without the other knowing."""
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    return shell
