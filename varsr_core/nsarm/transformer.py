"""Infinity's transformer: blocks that look at the pyramid so far, then at the text.

Shape letters: N tiles, L tokens of this call, D width, H heads. The residual stream, norms,
modulation and the head are float32; matrix products of the blocks run in `dtype`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..nn.attention import Attend, CachedAttention
from ..nn.kv_cache import KVCache
from ..nn.layer_list import LayerList
from ..nn.parameters import LeafParameter
from ..nn.rope import apply_rope, rope_table
from ..nn.schedule import ScaleSchedule
from ..runtime.transfer import brought
from .config import TransformerConfig
from .row_scaled import RowScaled
from .text import TextEncoder, TextState

NORM_EPS = 1e-6
POSITIONS = 64  # every map is stretched onto so many rows and columns

AttentionFn = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""(q, k, v, softmax scale), each (N, H, L, head_dim)."""


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def plainly(block: nn.Module, *arguments: Any) -> Tensor:
    """As it is, in place of one that keeps less for the backward pass."""
    return block(*arguments)


class Block(nn.Module):
    """Self-attention, cross-attention to the text, MLP; the first and the last are modulated."""

    def __init__(
        self,
        config: TransformerConfig,
        dtype: torch.dtype,
        attention: AttentionFn,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        width = config.width
        self.heads, self.dtype, self.attention = config.heads, dtype, attention

        def linear(inputs: int, outputs: int) -> nn.Module:
            if config.packed:
                return RowScaled(inputs, outputs, operations)
            return operations.Linear(inputs, outputs)

        self.modulation = LeafParameter(6, width)
        self.qkv = linear(width, 3 * width)
        self.query_scale = LeafParameter(config.heads)
        self.projection = linear(width, width)
        self.cross_norm = operations.LayerNorm(width, eps=NORM_EPS)
        self.cross_query = linear(width, width)
        self.cross_kv = linear(width, 2 * width)
        self.cross_projection = linear(width, width)
        self.fc1 = linear(width, config.mlp_width)
        self.fc2 = linear(config.mlp_width, width)

    def remember(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (1, H, n, head_dim) of the text's tokens (1, n, D)."""
        k, v = rearrange(self.cross_kv(text), "n l (two h d) -> two n h l d", two=2, h=self.heads)
        return k, v

    def forward(
        self, x: Tensor, text: TextState, attend: Attend, layer: int, rope: Tensor
    ) -> Tensor:
        """x: (N, L, D) float32; attend: what a token sees of tokens, in this layer."""
        table = self.modulation(text.condition) + text.condition
        gamma1, gamma2, scale1, scale2, shift1, shift2 = table.unbind(2)
        h = modulate(x, scale1, shift1).to(self.dtype)
        q, k, v = rearrange(self.qkv(h), "n l (three h d) -> three n h l d", three=3, h=self.heads)
        q = F.normalize(q.float(), dim=-1) * self.query_scale(x)[:, None, None]
        k = F.normalize(k.float(), dim=-1)
        q, k = (apply_rope(part, rope).to(self.dtype) for part in (q, k))
        x = x + gamma1 * self.projection(_joined(attend(layer, q, k, v)))
        x = x + self._cross(x, text, layer)
        h = self.fc1(modulate(x, scale2, shift2).to(self.dtype))
        return x + gamma2 * self.fc2(F.gelu(h, approximate="tanh"))

    def _cross(self, x: Tensor, text: TextState, layer: int) -> Tensor:
        h = self.cross_norm(x).to(self.dtype)
        q = rearrange(self.cross_query(h), "n l (h d) -> n h l d", h=self.heads)
        return self.cross_projection(_joined(text.attend(layer, q, self.attention)))


def _joined(heads: Tensor) -> Tensor:
    return rearrange(heads, "n h l d -> n l (h d)")


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm without weights, then scale and shift; all float32."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale)


def rope_positions(side: int) -> Tensor:
    """Row and column of every token of a map, stretched onto the common grid: (side * side, 2).

    Rounded to whole rows, halves to even, as the weights were trained.
    """
    index = torch.round(torch.arange(side) * POSITIONS / side)
    return torch.stack(torch.meshgrid(index, index, indexing="ij"), dim=-1).reshape(-1, 2)


class Transformer(nn.Module):
    """One map after the other, each seeing everything before it and the text."""

    def __init__(
        self,
        config: TransformerConfig,
        bits: int,
        schedule: ScaleSchedule,
        *,
        dtype: torch.dtype = torch.float32,
        attention: AttentionFn = attention,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        width = config.width
        self.config, self.schedule, self.dtype = config, schedule, dtype
        self.attention = attention
        self.text = TextEncoder(config, dtype, operations)
        self.start = LeafParameter(width)
        self.scale_embedding = operations.Embedding(config.levels, width)
        self.word_embed = operations.Linear(bits, width)
        self.shared_modulation = operations.Linear(width, 6 * width)
        self.blocks = LayerList(
            Block(config, dtype, attention, operations) for _ in range(config.depth)
        )
        self.head_modulation = operations.Linear(width, 2 * width)
        self.head = operations.Linear(width, 2 * bits)
        self._ropes: dict[tuple[torch.device, tuple[int, ...]], Tensor] = {}

    def read(self, features: Tensor) -> TextState:
        """All that the text contributes, computed once: features (n, text width)."""
        start, tokens = self.text(features)
        return TextState(start, *self.remember(start, tokens))

    def remember(self, start: Tensor, tokens: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """`condition` and `memory` of T texts, see TextState, of what the text encoder says.

        start: (T, D); tokens: (1, n, D) of all texts, one behind the other
        """
        condition = self.shared_modulation(F.silu(start).to(self.dtype)).float()
        return condition.unflatten(1, (1, 6, -1)), [block.remember(tokens) for block in self.blocks]

    def new_cache(self, tiles: int, device: torch.device) -> KVCache:
        """For all scales but the last one, which nothing looks back at."""
        config = self.config
        tokens = self.schedule.num_tokens - self.schedule.final_side**2
        return KVCache(
            config.depth,
            tiles,
            config.heads,
            tokens,
            config.head_dim,
            dtype=self.dtype,
            device=device,
        )

    def embed(self, words: Tensor | None, text: TextState, scale: int, tiles: int) -> Tensor:
        """Input of one scale: words (N, L, bits), or the text's vector at scale 0 -> (N, L, D)."""
        if words is None:
            x = (text.start + self.start(text.start))[:, None].expand(tiles, -1, -1)
        else:
            x = self.word_embed(words.to(self.dtype)).float()
        index = torch.full((1,), scale, device=x.device)  # a copy would wait for a GPU
        return x + self.scale_embedding(index).float()

    def forward(self, x: Tensor, text: TextState, cache: KVCache, scales: Sequence[int]) -> Tensor:
        """Runs one scale, or the first few in one pass, against everything cached.

        x:       (N, L, D) from embed(), of all `scales` one behind the other
        returns  (N, L, D) float32, before the head
        """
        last = self.schedule.num_scales - 1 in scales
        attend = CachedAttention(cache, self.kernel, self.tokens(scales), last=last)
        hidden = self.run_blocks(x, text, attend, scales)
        if not last:
            cache.advance(x.shape[1])
        return hidden

    def run_blocks(
        self,
        x: Tensor,
        text: TextState,
        attend: Attend,
        scales: Sequence[int],
        call: Callable[..., Tensor] = plainly,
    ) -> Tensor:
        """All blocks, one after the other, on the tokens of `scales`: (N, L, D) -> the same.

        call: runs a block on its arguments
        """
        rope = self._rope_on(x.device, tuple(scales))
        for layer, block in enumerate(self.blocks):
            x = call(block, x, text, attend, layer, rope)
        return x

    def _rope_on(self, device: torch.device, scales: tuple[int, ...]) -> Tensor:
        """Angles of the tokens of some scales: (2, L, head_dim / 2); made once."""
        key = device, scales
        if key not in self._ropes:
            positions = torch.cat([rope_positions(self.schedule.sides[k]) for k in scales])
            with torch.inference_mode(False):  # others may take it later
                self._ropes[key] = brought(rope_table(positions, self.config.head_dim), device)
        return self._ropes[key]

    def tokens(self, scales: Sequence[int]) -> list[int]:
        """Of each scale."""
        return [self.schedule.sides[k] ** 2 for k in scales]

    def kernel(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Of self-attention, whose queries carry a learned scale."""
        return self.attention(q, k, v, 1.0)

    def logits(self, hidden: Tensor, text: TextState) -> Tensor:
        """(N, L, D) -> (N, L, bits, 2) float32, of zero and of one."""
        condition = self.head_modulation(F.silu(text.start).to(self.dtype)).float()
        scale, shift = condition[:, None].chunk(2, dim=-1)
        return self.head(modulate(hidden, scale, shift)).float().unflatten(2, (-1, 2))
