"""How much memory work on one tile takes, so that a host can make room and batches fit.

Estimates, a little above what tensors take; what kernels need inside is not in them, and out of
memory is still caught and retried.
"""

from __future__ import annotations

from .config import VARSRConfig
from .model import VARSR

LIVE_MAPS = 4  # feature maps alive at once in a residual block of the decoder
LIVE_ROWS = 12  # float32 copies of a row's tokens alive at once in a transformer block


def tile_bytes(model: VARSR) -> int:
    """Peak bytes of one guided tile, whichever stage needs most; weights not counted."""
    return max(_sampling_bytes(model), _decoding_bytes(model))


def _sampling_bytes(model: VARSR) -> int:
    config = model.config
    rows, width = 2, config.transformer.width
    cached = config.prefix_tokens + config.schedule.num_tokens
    cache = 2 * config.transformer.depth * rows * cached * width * model.dtype.itemsize
    tokens = rows * (config.prefix_tokens + 1)
    block = tokens * (LIVE_ROWS * width * 4 + config.transformer.mlp_width * model.dtype.itemsize)
    logits = tokens * config.tokenizer.codebook_size * 4 * 2
    return cache + max(block, logits)


def _decoding_bytes(model: VARSR) -> int:
    config: VARSRConfig = model.config
    pixels = config.tile_size**2
    finest = pixels * config.tokenizer.widths[0] * model.tokenizer_dtype.itemsize
    # The input of the finest level's first block still has the next level's width.
    wide = pixels * config.tokenizer.widths[min(1, len(config.tokenizer.widths) - 1)]
    picture = 2 * 3 * pixels * 4
    return LIVE_MAPS * finest + wide * model.tokenizer_dtype.itemsize + picture
