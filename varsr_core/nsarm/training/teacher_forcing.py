"""All scales in one pass: what the cached sampler computes step by step, for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, cat, nn
from torch.utils.checkpoint import checkpoint

from ...nn.attention import BlockCausalAttention
from ..model import NSARM
from ..text import TextState, looked_up
from ..transformer import Transformer, plainly


class AllScales(BlockCausalAttention):
    """A scale sees itself and everything before it."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__(
            transformer.tokens(range(transformer.schedule.num_scales)), transformer.kernel
        )

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor:
        # Under autocast the values alone come from a product of matrices.
        return super().__call__(layer, q.to(v.dtype), k.to(v.dtype), v)


@dataclass(frozen=True)
class OwnTexts(TextState):
    """Of several texts, each of so many pictures, which follow each other.

    start, condition: with a row for each picture
    memory:           of the tokens of all texts, one behind the other
    pictures, tokens: of each text
    """

    pictures: list[int]
    tokens: list[int]

    def attend(self, layer: int, q: Tensor, kernel: Callable[..., Tensor]) -> Tensor:
        k, v = (part.split(self.tokens, dim=2) for part in self.memory[layer])
        own = zip(q.split(self.pictures), k, v, strict=True)
        return cat([looked_up(*parts, kernel) for parts in own])


def read_texts(
    transformer: Transformer, features: Sequence[Tensor], pictures: Sequence[int]
) -> OwnTexts:
    """All that several texts contribute. Every block is called once, however many there are, for
    processes that share its weights have to call it equally often.

    features: (n, text width) of each text; pictures: how many it has
    """
    read = [transformer.text(part) for part in features]
    condition, memory = transformer.remember(
        cat([start for start, _ in read]), cat([tokens for _, tokens in read], dim=1)
    )
    rows = [text for text, count in enumerate(pictures) for _ in range(count)]
    return OwnTexts(
        start=cat([read[text][0] for text in rows]),
        condition=cat([condition[text : text + 1] for text in rows]),
        memory=memory,
        pictures=list(pictures),
        tokens=[len(part) for part in features],
    )


def all_hidden(
    model: NSARM, words: Sequence[Tensor | None], text: TextState, checkpointing: bool = False
) -> Tensor:
    """Hidden states of the tokens of every scale, before the head.

    words:         (N, side * side, bits) of every scale; None for the first
    text:          of all N pictures
    checkpointing: each block is computed again in the backward pass, and its work is not kept
    returns        (N, tokens of all scales, D) float32
    """
    transformer = model.transformer
    pictures = next(len(part) for part in words if part is not None)
    x = cat([transformer.embed(part, text, k, pictures) for k, part in enumerate(words)], dim=1)
    call = again if checkpointing else plainly
    return transformer.run_blocks(x, text, AllScales(transformer), range(len(words)), call)


def again(block: nn.Module, *arguments: Any) -> Tensor:
    """A block whose work is not kept for the backward pass."""
    found = checkpoint(block, *arguments, use_reentrant=False)
    assert isinstance(found, Tensor)
    return found
