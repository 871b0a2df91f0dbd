"""How much memory a step of training takes, before it is taken.

Weights, gradients and what the optimiser keeps are counted off the parameters; what autograd keeps
of a pass is counted by computing it on the meta device, where tensors have a shape and no content.
What kernels need inside is not in it, so a little more is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from ...errors import InputError
from ..loop_settings import LoopSettings
from ..stages.loss import Loss
from ..steps.draws import StepGenerator
from ..steps.passes import without_values
from ..steps.processes import place
from .saved import AsOnGPU, counted, on_meta

logger = logging.getLogger(__name__)

GIB = 2**30
CONTEXT = 600 * 2**20  # of CUDA itself and its libraries
LIVE = 4  # tensors of the largest size alive at once, where none is kept
MOMENTS = 2  # that AdamW keeps of every weight
AHEAD = 2  # blocks of which FSDP2 has all weights at once


@dataclass(frozen=True)
class StepMemory:
    """Bytes on one GPU.

    weights:    of all networks; of those that learn its share
    gradients:  and what is in transit to other processes
    optimizer:  moments, and the running average of weights
    gathered:   weights and gradients that shards bring together for the moment
    kept:       for the gradient, of one pass
    work:       beside it
    """

    weights: int
    gradients: int
    optimizer: int
    gathered: int
    kept: int
    work: int

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        parts = ", ".join(
            f"{field.name} {getattr(self, field.name) / GIB:.1f}" for field in fields(self)
        )
        return f"{self.total / GIB:.1f} GiB ({parts})"


@dataclass(frozen=True)
class PassMemory:
    """Bytes of one pass: kept for its gradient, and needed beside it for a while."""

    kept: int
    work: int


def pass_memory(
    module: Loss[Any],
    batch: Any,
    samples: int,
    dtype: torch.dtype | None,
    checkpointing: bool = False,
) -> PassMemory:
    """Of a pass over so many samples.

    module: computes its losses; the parts of it that learn require gradients
    batch:  of any number of samples, for their shapes
    dtype:  of matrix products; None for float32
    checkpointing: whether blocks are computed again for the gradient
    Raises RuntimeError where what is computed depends on values.
    """
    meta = on_meta(module)
    again = outermost(meta.checkpointed()) if checkpointing else []
    with AsOnGPU(dtype) as gpu, counted(meta, again) as saved:
        meta(*meta.inputs(without_values(batch, samples)), StepGenerator())
        for cast in gpu.cast.values():
            saved.add(cast)
    return PassMemory(saved.total, LIVE * gpu.largest)


def step_memory(
    module: Loss[Any],
    one_pass: PassMemory,
    settings: LoopSettings,
    *,
    processes: int = 1,
    sharded: bool = False,
) -> StepMemory:
    """Of a step in such passes.

    processes: GPUs that train one model
    sharded:   whether they share out what learns
    """
    learning = sum(p.nbytes for p in module.parameters() if p.requires_grad)
    still = sum(p.nbytes for p in module.parameters() if not p.requires_grad)
    share = -(-learning // processes) if sharded else learning
    # Replicas gather gradients in buckets of as many bytes.
    transit = learning if processes > 1 and not sharded else 0
    return StepMemory(
        weights=still + share,
        gradients=share + transit,
        optimizer=share * (MOMENTS + bool(settings.average)),
        gathered=2 * _gathered(module, learning) if sharded else 0,
        kept=one_pass.kept,
        work=one_pass.work + CONTEXT,
    )


def outermost(parts: Sequence[nn.Module]) -> list[nn.Module]:
    """Those that lie in no other one."""
    inner = {id(m) for part in parts for m in part.modules() if m is not part}
    return [part for part in parts if id(part) not in inner]


def _gathered(module: Loss[Any], learning: int) -> int:
    """Bytes of weights that a GPU has whole for the moment: of some blocks, and all others."""
    blocks = [
        sum(p.nbytes for p in part.parameters() if p.requires_grad)
        for part in outermost(module.shards())
    ]
    return learning - sum(blocks) + AHEAD * max(blocks, default=0)


def tell(
    module: Loss[Any],
    batch: Any,
    settings: LoopSettings,
    dtype: torch.dtype | None,
    device: torch.device,
    *,
    checkpointing: bool,
    sharded: bool,
    name: str,
) -> StepMemory | None:
    """Says what a step of a stage will take; to be called when its weights are on the device.

    module:  computes its losses; as on_meta() makes it before processes share its weights
    batch:   this process's samples of a step
    returns  None where it cannot be counted: what is computed depends on values
    Raises InputError where a GPU does not have so much left.
    """
    samples = -(-len(batch[0]) // settings.accumulate)
    try:
        one_pass = pass_memory(module, batch, samples, dtype, checkpointing)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        logger.debug("%s cannot be counted: %s", name, error)
        logger.info("%s: what a step takes cannot be told before it is taken", name)
        return None
    needed = step_memory(module, one_pass, settings, processes=place()[1], sharded=sharded)
    logger.info("%s: a step takes %s", name, needed)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        check_room(needed, free, samples, name)
    return needed


def check_room(needed: StepMemory, free: int, samples: int, name: str) -> None:
    """Raises InputError with what can be done.

    free: bytes that this process may have on its GPU, its weights counted in
    """
    if needed.total <= free:
        return
    raise InputError(
        f"a step of {name} takes {needed}; the GPU has {free / GIB:.1f} GiB for it. Use a larger "
        f"`accumulate` (now {samples} samples are taken at once), `checkpointing`, "
        '`"precision": "bf16"`, or more GPUs'
    )
