"""How much memory work on one tile takes, for each part of the model.

Estimates, a little above what tensors take; what kernels need inside is not in them, and out of
memory is still caught and retried.
"""

from __future__ import annotations

from .config import PATCH
from .model import NSARM

LIVE_MAPS = 4  # feature maps alive at once in a residual block of the autoencoder
LIVE_STREAMS = 3.5  # float32 copies of a scale's tokens alive at once in a transformer block
LIVE_ROWS = 14  # copies in the dtype of the model, keys and values of all scales counted in
TEXT_TOKENS = 160  # of a caption; its keys and values are kept for all blocks


def tile_bytes(model: NSARM, texts: int) -> int:
    """Peak bytes of one tile, whichever part works; weights not counted. texts: as below."""
    return max(encoding_bytes(model), sampling_bytes(model, texts), decoding_bytes(model))


def encoding_bytes(model: NSARM) -> int:
    """Peak bytes of one tile in the encoder and the map network; weights not counted."""
    pixels, maps = model.config.lq_size**2, model.config.maps
    encoder = LIVE_MAPS * pixels * model.config.vae.widths[0] * model.vae_dtype.itemsize
    cells = (PATCH * model.config.schedule.sides[len(maps.widths) - 1]) ** 2
    logits = 2 * max(maps.heads) * cells**2 * 4  # where no kernel avoids them
    features = 16 * max(cells, maps.side**2) * max(maps.widths) * model.dtype.itemsize
    return max(encoder, logits + features)


def sampling_bytes(model: NSARM, texts: int) -> int:
    """Peak bytes of one tile while it is sampled, keys and values of all scales included.

    texts: 2 with guidance, else 1
    """
    config, transformer = model.config, model.config.transformer
    last, item = config.schedule.final_side**2, model.dtype.itemsize
    kept = config.schedule.num_tokens - last + TEXT_TOKENS
    cache = 2 * transformer.depth * kept * transformer.width * item
    block = last * transformer.width * (LIVE_STREAMS * 4 + LIVE_ROWS * item)
    return int(texts * cache + block)


def decoding_bytes(model: NSARM) -> int:
    """Peak bytes of one tile in the decoder."""
    pixels, widths = model.config.tile_size**2, model.config.vae.widths
    finest = pixels * widths[0] * model.vae_dtype.itemsize
    # The input of the finest level's first block still has the next level's width.
    wide = pixels * widths[min(1, len(widths) - 1)] * model.vae_dtype.itemsize
    return LIVE_MAPS * finest + wide + 2 * 3 * pixels * 4
