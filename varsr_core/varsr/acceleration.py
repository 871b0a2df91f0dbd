"""Other ways to run a model: its arithmetic compiled, recorded, or with weights in 8 bits."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..nn.float8 import FLOAT8, Float8Linear, store_in_float8
from ..nn.kv_cache import KVCache
from ..runtime.compile import Compiler
from ..runtime.cuda_graphs import Recorder
from .model import VARSR
from .pointwise import PLAIN, Pointwise
from .transformer import Block, run_blocks
from .weights import build_model, size_tensors

# A GPU is busy enough with more than these (rows times tokens); recordings would only hold memory.
RECORDED_TOKENS = 4096

Module = TypeVar("Module", bound=nn.Module)


class RecordedBlocks:
    """The blocks of a transformer from recordings, one for each scale."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __call__(
        self,
        blocks: Sequence[Block],
        x: Tensor,
        classes: Tensor,
        cache: KVCache,
        rope: Tensor,
        keep: int,
    ) -> Tensor:
        """As run_blocks."""
        if x.shape[0] * x.shape[1] > RECORDED_TOKENS:
            return run_blocks(blocks, x, classes, cache, rope, keep)
        return self.recorder.run(
            lambda x, classes, rope: run_blocks(blocks, x, classes, cache, rope, keep),
            (x, classes, rope),
            [parameter for block in blocks for parameter in block.parameters()],
            cache.storage,
            (cache.length, keep),
        )


def accelerated(
    model: VARSR, *, compiler: Compiler | None = None, recorder: Recorder | None = None
) -> VARSR:
    """The same model run another way. Shares every layer and weight with `model`, now and later.

    `model` itself stays as it is. What a host does to its layers (move, patch, offload) it does to
    both; only layers added or replaced in one of them are not seen by the other.
    """
    transformer = _shell(model.transformer)
    if compiler is not None:
        pointwise = Pointwise(*(compiler(getattr(PLAIN, part.name)) for part in fields(Pointwise)))
        blocks = [_shell(block) for block in model.transformer.blocks]
        for block in blocks:
            block.pointwise = pointwise
        transformer.blocks = nn.ModuleList(blocks)
    if recorder is not None:
        transformer.run_blocks = RecordedBlocks(recorder)
    other = _shell(model)
    other.transformer = transformer
    return other


def in_float8(
    weights: Mapping[str, Tensor],
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
        attention=like.transformer.blocks[0].attention,
        operations=operations,
        fingerprint=like.fingerprint,
    )
    model.transformer.run_blocks = like.transformer.run_blocks
    for block, other in zip(model.transformer.blocks, like.transformer.blocks, strict=True):
        block.pointwise = other.pointwise
    with torch.inference_mode(False):
        store_in_float8(model.transformer.blocks, layer)
        store_in_float8(model.refiner.blocks, layer)
    return model


def is_in_float8(model: VARSR) -> bool:
    return any(weight.dtype == FLOAT8 for weight in model.transformer.parameters())


def _shell(module: Module) -> Module:
    """The same module, but its children can be replaced without the other knowing."""
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    return shell
