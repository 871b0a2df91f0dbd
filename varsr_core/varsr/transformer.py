"""The next-scale transformer: blocks modulated by the quality class, scale-aligned RoPE.

Shape letters: R rows (tiles, twice when guided), L tokens of this call, D width, H heads.
The residual stream, norms, modulation and logits are float32; matrix products run in `dtype`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..nn.attention import Attend, AttentionFn, CachedAttention
from ..nn.cpu_attention import cpu_attention, worthwhile
from ..nn.kv_cache import Allocate, KVCache, allocate
from ..nn.layer_list import LayerList
from ..nn.parameters import LeafParameter
from ..nn.rope import map_positions, rope_table
from ..nn.schedule import ScaleSchedule
from ..runtime.transfer import brought
from .config import TransformerConfig
from .pointwise import PLAIN, Pointwise, modulate


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v with softmax scale 1: q and k are normalised, q carries a learned scale."""
    if worthwhile(q, k):
        return cpu_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


class ClassModulation(nn.Module):
    """Linear(SiLU(class embedding)), of so many classes that a table of its values is larger."""

    def __init__(
        self, width: int, outputs: int, dtype: torch.dtype, operations: ModuleType
    ) -> None:
        super().__init__()
        self.linear = operations.Linear(width, outputs)
        self.dtype = dtype

    def forward(self, embedded: Tensor) -> Tensor:
        """(R, width) float32 -> (R, outputs)"""
        return self.linear(F.silu(embedded).to(self.dtype))


def class_modulation(
    config: TransformerConfig, vectors: int, dtype: torch.dtype, operations: ModuleType
) -> Any:
    """What a class says to a layer: (R,), or the embeddings (R, width) -> (R, vectors * width).

    With few classes, Linear(SiLU(class embedding)) takes few values: they are a table.
    """
    outputs = vectors * config.width
    if config.class_to_image:
        return ClassModulation(config.width, outputs, dtype, operations)
    return operations.Embedding(config.num_classes, outputs)


class Block(nn.Module):
    """Self-attention and MLP, both modulated by the quality class (paper, section 3.2)."""

    def __init__(
        self,
        config: TransformerConfig,
        *,
        dtype: torch.dtype,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        width = config.width
        self.modulation = class_modulation(config, 6, dtype, operations)
        self.qkv = operations.Linear(width, 3 * width)
        self.query_scale = LeafParameter(config.heads)
        self.projection = operations.Linear(width, width)
        self.fc1 = operations.Linear(width, config.mlp_width)
        self.fc2 = operations.Linear(config.mlp_width, width)
        self.heads = config.heads
        self.dtype = dtype

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        attend: Attend,
        layer: int,
        rope: Tensor,
        keep: int,
        between: Pointwise = PLAIN,
    ) -> Tensor:
        """x: (R, L, D) float32, tokens of this call only; earlier ones are the matter of `attend`.

        modulation: (R, 1, 6 * D) float32, of this layer for the quality class of each row
        attend:  what a token sees, in this layer
        rope:    (2, L, head_dim / 2)
        keep:    only the last `keep` tokens are wanted; all L can be seen
        between: which implementation of what lies between the matrix products
        returns  (R, keep, D) float32
        """
        gamma1, gamma2, scale1, scale2, shift1, shift2 = modulation.chunk(6, dim=-1)
        h = between.modulate(x, scale1, shift1, self.dtype)
        q, k, v = between.split_heads(self.qkv(h), self.query_scale(x)[:, None, None], rope)
        h = attend(layer, q[:, :, q.shape[2] - keep :], k, v)
        if keep == 0:
            return x[:, :0]
        del q, k, v  # so that the MLP can have their memory
        x, h = x[:, -keep:], self.projection(rearrange(h, "r h l d -> r l (h d)"))
        x, h = between.add_and_modulate(x, gamma1, h, scale2, shift2)
        return between.add(x, gamma2, self.fc2(between.activate(self.fc1(h))))


BlocksFn = Callable[[LayerList[Block], Tensor, Tensor, Attend, Tensor, int], Tensor]


def run_blocks(
    blocks: LayerList[Block],
    x: Tensor,
    modulation: Tensor,
    attend: Attend,
    rope: Tensor,
    keep: int,
    between: Pointwise = PLAIN,
) -> Tensor:
    """All blocks, one after the other; the last one makes only what is kept.

    x: (R, L, D); returns (R, keep, D); both float32
    modulation: see Transformer.modulation
    """
    last = len(blocks) - 1
    for layer, (block, own) in enumerate(zip(blocks, modulation, strict=True)):
        wanted = keep if layer == last else x.shape[1]
        x = block(x, own, attend, layer, rope, wanted, between)
    return x


class Transformer(nn.Module):
    """Prefix tokens, then one map after the other, each seeing everything before it."""

    def __init__(
        self,
        config: TransformerConfig,
        codebook_size: int,
        schedule: ScaleSchedule,
        *,
        dtype: torch.dtype = torch.float32,
        attention: AttentionFn = attention,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        self.config = config
        self.schedule = schedule
        self.dtype = dtype
        self.attention = attention
        self.prefix_tokens = 0 if config.class_to_image else schedule.final_side**2
        self.class_embedding = operations.Embedding(config.num_classes, config.width)
        self.position_embedding = operations.Embedding(self.prefix_tokens + 1, config.width)
        self.scale_embedding = operations.Embedding(schedule.num_scales, config.width)
        self.blocks = LayerList(
            Block(config, dtype=dtype, operations=operations) for _ in range(config.depth)
        )
        self.head_modulation = class_modulation(config, 2, dtype, operations)
        self.head = operations.Linear(config.width, codebook_size)
        self.run_blocks: BlocksFn = run_blocks
        self.allocate: Allocate = allocate  # memory of caches
        self._ropes: dict[tuple[torch.device, int], Tensor] = {}

    def new_cache(self, rows: int, device: torch.device) -> KVCache:
        """An empty cache for a whole run: all prefix tokens and all scales."""
        tokens = self.prefix_tokens + self.schedule.num_tokens
        config = self.config
        return KVCache(
            config.depth,
            rows,
            config.heads,
            tokens,
            config.head_dim,
            dtype=self.dtype,
            device=device,
            allocate=self.allocate,
        )

    def embed_prefix(self, prefix: Tensor, classes: Tensor) -> Tensor:
        """Input of scale 0: (R, S * S, D), and behind it the class token: (R, S * S + 1, D)."""
        tokens = torch.cat((prefix.float(), self.class_embedding(classes).float()[:, None]), dim=1)
        index = torch.arange(tokens.shape[1], device=tokens.device)
        return tokens + self.position_embedding(index).float() + self._scale_token(0, tokens)

    def embed_map(self, word_tokens: Tensor, scale: int) -> Tensor:
        """Input of scale k >= 1: embedded latent tokens (R, side * side, D) -> the same shape."""
        return word_tokens.float() + self._scale_token(scale, word_tokens)

    def _scale_token(self, scale: int, like: Tensor) -> Tensor:
        index = torch.full((1,), scale, device=like.device)  # a copy would wait for a GPU
        return self.scale_embedding(index).float()

    def modulation(self, classes: Tensor) -> Tensor:
        """Of all blocks for rows of these quality classes, the same at every scale of a run.

        classes: (R,); returns (depth, R, 1, 6 * D) float32
        """
        given = self._modulating(classes)
        return torch.stack([block.modulation(given).float()[:, None] for block in self.blocks])

    def _modulating(self, classes: Tensor) -> Tensor:
        """What modulations are made of: see class_modulation()."""
        embedded = isinstance(self.head_modulation, ClassModulation)
        return self.class_embedding(classes).float() if embedded else classes

    def forward(
        self, x: Tensor, modulation: Tensor, cache: KVCache, scale: int, *, keep: int
    ) -> Tensor:
        """Runs one scale (with scale 0, the prefix too) against everything cached.

        x:      (R, L, D) from embed_prefix or embed_map
        modulation: of the rows, from modulation()
        keep:   how many of the last tokens are wanted; 0 only fills the cache
        returns (R, keep, D) float32, before the head
        """
        rope = self._rope_on(x.device, scale)
        attend = CachedAttention(cache, self.attention)
        hidden = self.run_blocks(self.blocks, x, modulation, attend, rope, keep)
        cache.advance(x.shape[1])
        return hidden

    def _rope_on(self, device: torch.device, scale: int) -> Tensor:
        """rope(), made once: bringing it to a GPU makes the GPU wait."""
        key = device, scale
        if key not in self._ropes:
            with torch.inference_mode(False):  # training may take it later
                self._ropes[key] = brought(self.rope(scale), device)
        return self._ropes[key]

    def rope(self, scale: int) -> Tensor:
        """Angles of one scale's tokens (with scale 0, the prefix too): (2, L, head_dim / 2)."""
        positions = map_positions(self.schedule.sides[scale])
        if scale == 0 and self.prefix_tokens:
            positions = torch.cat((map_positions(self.schedule.final_side), positions))
        return rope_table(positions, self.config.head_dim)

    def logits(self, hidden: Tensor, classes: Tensor) -> Tensor:
        """(R, L, D) -> (R, L, V) float32."""
        modulation = self.head_modulation(self._modulating(classes))
        scale, shift = modulation.float()[:, None].chunk(2, dim=-1)
        return self.head(modulate(hidden, scale, shift, self.dtype)).float()
