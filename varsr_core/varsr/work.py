"""How much work the stages of VARSR are on one tile; see runtime/work.py."""

from __future__ import annotations

from dataclasses import replace

from ..nn.work import attention, convolution, encoder_parts
from ..runtime.progress import ENCODING, REFINING, Stage
from ..runtime.work import Calls, Task
from .acceleration import is_recorded
from .model import VARSR
from .prefix_encoder import REDUCTION
from .settings import RefineSettings, SampleSettings

# Kernels of one call.
BLOCK = 46
HEAD = 4
REFINER, REFINER_BLOCK = 30, 12


def prefix_task(model: VARSR) -> Task:
    """The prefix encoder."""
    encoder, side = model.prefix_encoder, model.config.tile_size
    parts = [convolution(encoder.conv_in, side**2)]
    for layer in encoder.blocks:
        side //= layer.stride[0]
        parts.append(convolution(layer, side**2))
    parts.append(convolution(encoder.conv_out, side**2))
    if encoder.deep is not None:
        small = (model.config.tile_size // REDUCTION) ** 2
        parts += [
            convolution(layer, small) for layer in (encoder.deep.conv_in, *encoder.deep.blocks)
        ]
        parts.append(convolution(encoder.deep.conv_out, side**2))
    return Task(ENCODING, [_as_run(model, part) for part in parts])


def _as_run(model: VARSR, part: Calls) -> Calls:
    """Within a recording nothing can be told of."""
    return replace(part, module=None) if is_recorded(model) else part


def latent_task(model: VARSR) -> Task:
    """The tokenizer's encoder."""
    side = model.config.tile_size
    return Task(ENCODING, encoder_parts(model.encoder, side, side))


def scale_task(model: VARSR, settings: SampleSettings, scale: int, given: int = 0) -> Task:
    """One scale, with the first one the prefix, too; given: of how many scales the tokens are."""
    kept = scale < given and not settings.needs_logits(scale, given)
    config, schedule = model.config.transformer, model.config.schedule
    counts = [side**2 for side in schedule.sides[: scale + 1]]
    tokens = counts[scale] + (0 if scale else model.config.prefix_tokens)
    seen = model.config.prefix_tokens + sum(counts)
    wanted = 0 if kept else counts[scale]
    rows = 2 if scale < settings.guided_scales(schedule) else 1

    def block(kept: int) -> int:
        """Products of a block of which so many tokens are kept."""
        dense = tokens * 3 * config.width**2
        dense += kept * (config.width**2 + 2 * config.width * config.mlp_width)
        return rows * (dense + attention(kept, seen, config.heads, config.head_dim))

    last = config.depth - 1
    parts = [
        _as_run(model, Calls(layer, block(wanted if i == last else tokens), BLOCK))
        for i, layer in enumerate(model.transformer.blocks)
    ]
    if not kept:
        rows = 2 if settings.strength(schedule, scale) else 1
        products = rows * wanted * config.width * model.config.tokenizer.codebook_size
        parts.append(Calls(model.transformer.head, products, HEAD))
    return Task(Stage("scale", scale + 1, schedule.num_scales), parts)


def refining_task(model: VARSR, rows: int, settings: RefineSettings) -> Task:
    """The refiner; rows: that the last scale has for a tile."""
    config, channels = model.config.refiner, model.config.tokenizer.latent_channels
    tokens = (rows if settings.guidance else 1) * model.config.last_tokens
    weights = (5 * config.depth + 2) * config.width**2 + 3 * channels * config.width
    launches = REFINER + config.depth * REFINER_BLOCK
    steps = Calls(model.refiner, tokens * weights, launches, settings.steps)
    return Task(REFINING, [_as_run(model, steps)])
