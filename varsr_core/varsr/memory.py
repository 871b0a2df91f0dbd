"""How much memory work on one tile takes, so that a host can make room and batches fit.

Estimates, a little above what tensors take; what kernels need inside is not in them, and out of
memory is still caught and retried.
"""

from __future__ import annotations

from .acceleration import is_recorded
from .config import VARSRConfig
from .model import VARSR

ROWS = 2  # of a guided tile
LIVE_MAPS = 4  # feature maps alive at once in a residual block of the decoder
LIVE_ROWS = 12  # float32 copies of a row's tokens alive at once in a transformer block


def tile_bytes(model: VARSR) -> int:
    """Peak bytes of one guided tile, whichever stage needs most; weights not counted.

    Recordings keep what sampling takes, from run to run: the rest comes beside it.
    """
    block, logits, decoding = block_bytes(model), _logits_bytes(model), _decoding_bytes(model)
    if is_recorded(model):
        # Of inputs and results: of all scales, and of what comes before and behind them.
        places = _rows(model, 2 * _cached_tokens(model) + model.config.prefix_tokens)
        # Six vectors for each block, at every scale.
        places += _rows(
            model, 6 * model.config.transformer.depth * model.config.schedule.num_scales
        )
        return cache_bytes(model) + block + places + max(logits, decoding)
    return max(cache_bytes(model) + max(block, logits), decoding)


def cache_bytes(model: VARSR) -> int:
    """Keys and values of one guided tile."""
    config, tokens = model.config.transformer, _cached_tokens(model)
    return 2 * config.depth * ROWS * tokens * config.width * model.dtype.itemsize


def _cached_tokens(model: VARSR) -> int:
    return model.config.prefix_tokens + model.config.schedule.num_tokens


def _most_tokens(model: VARSR) -> int:
    """Of a row: at the first scale, with the prefix; at the last one, where there is none."""
    return max(model.config.prefix_tokens + 1, model.config.last_tokens)


def _rows(model: VARSR, tokens: int) -> int:
    """Vectors of so many tokens, in float32."""
    return ROWS * tokens * model.config.transformer.width * 4


def block_bytes(model: VARSR) -> int:
    """What a transformer block works on, of a guided tile, where it has most tokens."""
    tokens = _most_tokens(model)
    inner = ROWS * tokens * model.config.transformer.mlp_width * model.dtype.itemsize
    return LIVE_ROWS * _rows(model, tokens) + inner


def _logits_bytes(model: VARSR) -> int:
    tokens = ROWS * _most_tokens(model)
    return tokens * model.config.tokenizer.codebook_size * 4 * 2


def _decoding_bytes(model: VARSR) -> int:
    config: VARSRConfig = model.config
    pixels = config.tile_size**2
    finest = pixels * config.tokenizer.widths[0] * model.tokenizer_dtype.itemsize
    # The input of the finest level's first block still has the next level's width.
    wide = pixels * config.tokenizer.widths[min(1, len(config.tokenizer.widths) - 1)]
    picture = 2 * 3 * pixels * 4
    return LIVE_MAPS * finest + wide * model.tokenizer_dtype.itemsize + picture
