"""From logits to token ids: guidance, truncation, one seeded draw."""

from __future__ import annotations

import torch
from torch import Tensor


def guide(positive: Tensor, negative: Tensor, strength: float) -> Tensor:
    """Pushes `positive` away from `negative`. Strength 0, and no other, returns `positive`."""
    return (1 + strength) * positive - strength * negative


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """logits: (..., V). A copy with everything below the k-th largest at -inf; ties stay."""
    threshold = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < threshold, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """logits: (..., V). Returns a copy with the unlikely tail of total probability 1 - p at -inf.

    The most likely token always stays.
    """
    ordered, order = logits.sort(dim=-1)
    dropped = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    dropped[..., -1] = False
    return logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)


def truncated(logits: Tensor, *, top_k: int, top_p: float, temperature: float) -> Tensor:
    """Logits (..., V) of the tokens to choose from, the others at -inf; 0 and 1 keep all."""
    logits = logits / temperature
    if top_k > 0:
        logits = keep_top_k(logits, top_k)
    if top_p < 1:
        logits = keep_top_p(logits, top_p)
    return logits


def smooth_weights(logits: Tensor, ratio: float, exponential: Tensor) -> Tensor:
    """How much each token counts in a smooth mean: `more_smooth` of the public code.

    A softmax of logits with Gumbel noise, so that the mean is near one token drawn at random; ever
    nearer, the finer the scale.

    logits:      (..., V), truncated
    ratio:       0 at the first scale, 1 at the last
    exponential: (..., V), from the exponential distribution of rate 1
    returns      (..., V), 1 in sum
    """
    spread = max(0.27 * (1 - 0.95 * ratio), 0.005)
    return ((logits * (1 + ratio) - exponential.log()) / spread).softmax(dim=-1)


def draw_tokens(
    logits: Tensor, *, top_k: int, top_p: float, temperature: float, uniform: Tensor | None
) -> Tensor:
    """One token id per row of logits.

    logits:  (..., V) float32
    top_k:   1 is greedy and needs no draw; 0 keeps all
    top_p:   1 keeps all
    uniform: (...) in [0, 1), the draw itself, so that the caller owns all randomness;
             None is allowed when top_k is 1
    returns  (...) int64
    """
    if top_k == 1 or temperature == 0:
        return logits.argmax(dim=-1)
    if uniform is None:
        raise ValueError("sampling with top_k other than 1 needs uniform numbers")
    logits = truncated(logits, top_k=top_k, top_p=top_p, temperature=temperature)
    cumulative = logits.softmax(dim=-1).cumsum(dim=-1)
    # A float32 below 1 times the total rounds to less than the total: the draw stays inside.
    point = uniform[..., None].to(cumulative) * cumulative[..., -1:]
    ids = torch.searchsorted(cumulative, point, right=True).squeeze(-1)
    return ids.clamp(max=logits.shape[-1] - 1)  # of NaN it is beyond the last, which stops a GPU
