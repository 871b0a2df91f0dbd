"""Transformer blocks as training runs them: with branches dropped, and with less memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...nn.attention import Attend
from ...nn.layer_list import LayerList
from ...varsr.transformer import Block, run_blocks
from .draws import draw_rows, rows_of

VECTORS = 6  # of a block's modulation; the first two scale what its branches add to the stream


@dataclass(frozen=True)
class BlockSettings:
    """drop_path:     share of samples for which a branch of the last block is left out; it rises
                   evenly from 0 at the first block (stochastic depth, Huang et al. 2016)
    checkpointing: keeps what goes into a block, and computes the rest again for the gradient
    """

    drop_path: float = 0.0
    checkpointing: bool = False


PLAIN = BlockSettings()


def train_blocks(
    blocks: LayerList[Block],
    x: Tensor,
    modulation: Tensor,
    attend: Attend,
    rope: Tensor,
    again: bool,
) -> Tensor:
    """As run_blocks(), of which all tokens are kept.

    again: whether what a block computes is thrown away, to be computed again for the gradient
    """
    tokens = x.shape[1]
    if not again or not torch.is_grad_enabled():
        return run_blocks(blocks, x, modulation, attend, rope, keep=tokens)
    for layer, (block, own) in enumerate(zip(blocks, modulation, strict=True)):
        # Nothing is drawn inside: the state of the process-wide generator need not be kept.
        x = checkpoint(  # pyright: ignore[reportAssignmentType]
            block,
            x,
            own,
            attend,
            layer,
            rope,
            tokens,
            use_reentrant=False,
            preserve_rng_state=False,
        )
    return x


def drop_branches(modulation: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Modulation (depth, N, 1, 6 * D) with which some samples pass some branches by.

    The others' branches weigh as much more, so that the mean stays.

    rate: of the last block; generator: on the CPU
    """
    depth, samples = modulation.shape[:2]
    rates = torch.linspace(0, rate, depth)[:, None, None]

    def draw(count: int) -> Tensor:
        return torch.rand(depth, count, 2, generator=generator)

    kept = draw_rows(generator, rows_of(generator, samples), draw, dim=1) >= rates
    factors = torch.ones(depth, samples, 1, VECTORS, 1)
    factors[:, :, 0, :2, 0] = kept / (1 - rates)
    return (modulation.unflatten(-1, (VECTORS, -1)) * factors.to(modulation.device)).flatten(-2)
