"""All scales in one pass: what the cached sampler computes step by step, for training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...nn.attention import BlockCausalAttention
from ...nn.schedule import ScaleSchedule
from ...varsr.model import VARSR
from ...varsr.transformer import attention
from .blocks import PLAIN, BlockSettings, drop_branches, train_blocks


class AllScales(BlockCausalAttention):
    """Prefix and class token see each other, a scale sees itself and everything before it.

    prefix_tokens: of the low-quality picture; None for one for each token of the last scale
    """

    def __init__(self, schedule: ScaleSchedule, prefix_tokens: int | None = None) -> None:
        counts = [side * side for side in schedule.sides]
        counts[0] += schedule.final_side**2 if prefix_tokens is None else prefix_tokens
        super().__init__(counts, attention)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor:
        dtype = v.dtype
        if q.device.type == "cpu":  # where the kernel is faster in float32 than in bf16
            q, k, v = q.float(), k.float(), v.float()
        return super().__call__(layer, q, k, v).to(dtype)


def all_hidden(
    model: VARSR,
    prefix: Tensor,
    latents: Sequence[Tensor],
    classes: Tensor,
    settings: BlockSettings = PLAIN,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hidden states of the tokens of every scale, before the head.

    prefix:  (N, S * S, D), or (N, 0, D) of the class-to-image model
    latents: after each scale (N, C, S, S); the last one is not needed
    classes: (N,)
    generator: on the CPU; draws which branches are dropped, where some are to be
    returns  (N, tokens of all scales, D) float32
    """
    transformer, schedule = model.transformer, model.config.schedule
    maps = [transformer.embed_prefix(prefix, classes)]
    for scale in range(1, schedule.num_scales):
        words = model.embed_words(model.quantizer.downsample(latents[scale - 1], scale))
        maps.append(transformer.embed_map(words, scale))
    x = torch.cat(maps, dim=1)
    rope = torch.cat([transformer.rope(k) for k in range(schedule.num_scales)], dim=1)
    rope = rope.to(x.device)
    modulation = transformer.modulation(classes)
    if settings.drop_path > 0 and generator is not None:
        modulation = drop_branches(modulation, settings.drop_path, generator)
    attend, again = AllScales(schedule, model.config.prefix_tokens), settings.checkpointing
    x = train_blocks(transformer.blocks, x, modulation, attend, rope, again)
    return x[:, -schedule.num_tokens :]
