"""How much work the stages of NSARM are on one tile; see runtime/work.py."""

from __future__ import annotations

from ..nn.work import attention, encoder_parts, map_parts
from ..runtime.progress import ENCODING, Stage
from ..runtime.work import Calls, Task
from .config import FORCED
from .model import NSARM

# Kernels of one call.
BLOCK = 60
HEAD = 8


def forced_task(model: NSARM) -> Task:
    """The encoder and the map network."""
    side = model.config.lq_size
    parts = encoder_parts(model.vae.encoder, side, side)
    return Task(ENCODING, [*parts, *map_parts(model.maps, model.config.maps)])


def scale_task(model: NSARM, step: int, texts: int, text_tokens: int) -> Task:
    """The forced scales together, in step 0, or one scale.

    texts: that run, 2 with guidance; text_tokens: of each
    """
    config, schedule = model.config.transformer, model.config.schedule
    counts = [side**2 for side in schedule.sides[: step + FORCED]]
    first = 0 if step == 0 else len(counts) - 1
    tokens = sum(counts[first:])
    pairs = [(counts[scale], sum(counts[: scale + 1])) for scale in range(first, len(counts))]
    products = tokens * (6 * config.width**2 + 2 * config.width * config.mlp_width)
    for queries, keys in (*pairs, (tokens, text_tokens)):
        products += attention(queries, keys, config.heads, config.head_dim)
    launches = BLOCK + 3 * len(pairs)
    parts = [Calls(block, products, launches, texts) for block in model.transformer.blocks]
    if step:
        head = tokens * config.width * 2 * model.config.bits
        parts.append(Calls(model.transformer.head, head, HEAD, texts))
    return Task(Stage("scale", len(counts), schedule.num_scales), parts)
