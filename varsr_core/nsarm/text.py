"""What a text's features tell the transformer: one vector for all, and a memory to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..nn.parameters import LeafParameter
from .config import TransformerConfig

EPS = 1e-6
UNCONDITIONAL = 512  # tokens


@dataclass(frozen=True)
class TextState:
    """Of one prompt, the same for all tiles and scales.

    start:     (1, D) float32, the first token and the condition of all norms
    condition: (1, 1, 6, D) float32, what every block's modulation shares
    memory:    keys and values (1, H, n, head_dim) of every block's cross-attention
    """

    start: Tensor
    condition: Tensor
    memory: list[tuple[Tensor, Tensor]]

    def attend(self, layer: int, q: Tensor, kernel: Callable[..., Tensor]) -> Tensor:
        """What queries (N, H, L, head_dim) see of the text in one layer: the same shape.

        kernel: an AttentionFn of transformer.py
        """
        return looked_up(q, *self.memory[layer], kernel)


def looked_up(q: Tensor, k: Tensor, v: Tensor, kernel: Callable[..., Tensor]) -> Tensor:
    """q: (N, H, L, head_dim); k, v: (1, H, n, head_dim), the same for all tiles."""
    k, v = k.expand(len(q), -1, -1, -1), v.expand(len(q), -1, -1, -1)
    return kernel(q, k, v, q.shape[-1] ** -0.5)


class TextEncoder(nn.Module):
    """(n, text width) features of a prompt -> its vector (1, D) and its tokens (1, n, D)."""

    def __init__(
        self, config: TransformerConfig, dtype: torch.dtype, operations: ModuleType = nn
    ) -> None:
        super().__init__()
        width, text = config.width, config.text_width
        self.dtype = dtype
        self.heads = config.text_heads
        self.norm = LeafParameter(text)
        self.query = LeafParameter(config.text_heads, width // config.text_heads)
        self.unconditional = LeafParameter(UNCONDITIONAL, text)  # features of no text, learned
        self.kv = operations.Linear(text, 2 * width)
        self.projection = operations.Linear(width, width)
        self.fc1 = operations.Linear(text, width)
        self.fc2 = operations.Linear(width, width)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = features.float()[None]
        x = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + EPS) * self.norm(x)
        x = x.to(self.dtype)
        k, v = rearrange(self.kv(x), "n l (two h d) -> two n h l d", two=2, h=self.heads)
        pooled = F.scaled_dot_product_attention(self.query(x)[None, :, None], k, v)
        start = self.projection(rearrange(pooled, "n h 1 d -> n (h d)")).float()
        return start, self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
