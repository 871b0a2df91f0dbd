"""All scales in one pass: what the cached sampler computes step by step, for training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nn.schedule import ScaleSchedule
from ..varsr.model import VARSR


class WholePass:
    """Stands in for the key-value cache: one pass holds everything, nothing lies before it."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return keys, values


class BlockCausalAttention:
    """Attention of the training pass: prefix and class token see each other, a scale sees itself
    and everything before it. To be given to the model as its `attention`.

    One call for each scale, whose keys simply end where it ends: no mask, and nothing computed that
    a mask would throw away, a third of all pairs.
    """

    def __init__(self, schedule: ScaleSchedule) -> None:
        counts = [side * side for side in schedule.sides]
        counts[0] += schedule.final_side**2
        self.counts = counts

    @classmethod
    def of_sides(cls, sides: Sequence[int]) -> BlockCausalAttention:
        return cls(ScaleSchedule(tuple(sides)))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        dtype = v.dtype
        if q.device.type == "cpu":  # where the kernel is faster in float32 than in bf16
            q, k, v = q.float(), k.float(), v.float()
        seen, end = [], 0
        for queries in q.split(self.counts, dim=2):
            end += queries.shape[2]
            seen.append(
                F.scaled_dot_product_attention(queries, k[:, :, :end], v[:, :, :end], scale=1.0)
            )
        return torch.cat(seen, dim=2).to(dtype)


def all_hidden(model: VARSR, prefix: Tensor, latents: Sequence[Tensor], classes: Tensor) -> Tensor:
    """Hidden states of the tokens of every scale, before the head.

    model:   built with BlockCausalAttention
    prefix:  (N, S * S, D)
    latents: after each scale (N, C, S, S); the last one is not needed
    classes: (N,)
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
    for layer, block in enumerate(transformer.blocks):
        x = block(x, classes, WholePass(), layer, rope, keep=x.shape[1])
    return x[:, -schedule.num_tokens :]
