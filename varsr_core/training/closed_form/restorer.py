"""A restorer's first weights, solved for instead of drawn.

Drawn weights need thousands of steps before attention finds the place in the prefix that a token
stands for, and thousands more before logits know that near codes are alike. Both can be written
down. The prefix encoder estimates the latent; one head of every block averages that estimate over
the area of its token, or over a quarter of it; the last MLP turns that, scale by scale, into a
guess of what is left of the latent, and the head into logits of the codes near it. Training then
starts from a linear restorer with honest doubt, and learns what is not linear.

Which channels of the residual stream hold what: see stream_layout.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...nn.rope import BASE, GRID
from ...varsr.config import VARSRConfig
from ...varsr.model import VARSR
from ...varsr.transformer import Block
from ..stages.encoded_target import EncodedPair
from .codes import code_start
from .layers import clear_rows
from .prefix import prefix_fits
from .stream_layout import MARK, StreamLayout

KERNEL_RIDGE = 1e-3  # of the squared amplitudes of a kernel, keeps it from growing without end
UNSURE = 0.3  # height of the logits of quality classes that were not solved for
UNTURNED = 2  # slowest frequencies of each axis, hardly turning: kept apart from kernels
WHOLE, FIRST, SECOND = (0.0, 1.0), (0.0, 0.5), (0.5, 1.0)  # of a token's side
# Over which rows and columns of its token the head of each block averages, one after the other. No
# softmax of a few waves is a mean over an area with hard borders; a sum of several comes close.
PARTS = ((WHOLE, WHOLE), (FIRST, FIRST), (FIRST, SECOND), (SECOND, FIRST), (SECOND, SECOND))


def restorer_fits(config: VARSRConfig) -> bool:
    """Whether the sizes leave room for what restorer_start sets."""
    transformer = config.transformer
    channels = config.tokenizer.latent_channels
    return (
        StreamLayout.of(config).end <= transformer.width
        and prefix_fits(transformer.prefix_widths, channels)
        and transformer.head_dim >= max(channels, 4 * (UNTURNED + 2))
        and 2 * channels * config.schedule.num_scales <= transformer.mlp_width
    )


@torch.no_grad()
def restorer_start(model: VARSR, batches: Sequence[EncodedPair]) -> None:
    """Sets embeddings, one head a block, the last MLP and the head, behind prefix_start().

    model:   restorer_fits(), its tokenizer trained
    batches: batches of some hundred pictures in all, of the first quality class
    """
    layout = StreamLayout.of(model.config)
    _set_marks(model, layout)
    schedule, head = model.config.schedule, model.config.transformer.head_dim
    final = schedule.final_side
    kernels = {
        part: [_kernel(side, final, part, head) for side in (*schedule.sides, final)]
        for part in (WHOLE, FIRST, SECOND)
    }
    for number, block in enumerate(model.transformer.blocks):
        rows, columns = PARTS[number % len(PARTS)]
        pairs = list(zip(kernels[rows], kernels[columns], strict=True))
        _set_attention(block, layout, layout.average(number), pairs)
    code_start(model, layout, batches)
    width = model.config.transformer.width
    model.transformer.head_modulation.weight[1:, :width] = UNSURE - 1


def _set_marks(model: VARSR, layout: StreamLayout) -> None:
    """Every token says which scale it is of; tokens of maps say the latent so far."""
    transformer = model.transformer
    for table in (
        transformer.class_embedding,
        transformer.position_embedding,
        transformer.scale_embedding,
    ):
        table.weight[:, : layout.end] = 0
    prefix = transformer.prefix_tokens
    transformer.position_embedding.weight[:, layout.balance] = -MARK
    transformer.position_embedding.weight[:prefix, layout.mark(layout.scales)] = MARK
    transformer.position_embedding.weight[prefix, layout.mark(0)] = MARK
    transformer.scale_embedding.weight[1:, layout.balance] = -MARK
    for scale in range(1, layout.scales):
        transformer.scale_embedding.weight[scale, layout.mark(scale)] = MARK
    clear_rows(model.word_embed, layout.end)
    model.word_embed.weight[layout.words] = torch.eye(layout.channels).to(model.word_embed.weight)


def _set_attention(
    block: Block, layout: StreamLayout, average: slice, kernels: list[tuple[Tensor, Tensor]]
) -> None:
    """The first head averages the prefix's estimate over its part of the token, into `average`.

    kernels: of rows and of columns, for every scale and for the prefix itself
    """
    turned = kernels[0][0].shape[1]
    width, head = block.qkv.in_features, 4 * (turned + UNTURNED)
    # One real amplitude a frequency for the keys of the prefix; queries hold kernel and direction.
    sizes = [sum(kernel.square().sum().item() for kernel in pair) for pair in kernels]
    loud = max(sizes) ** 0.5
    amplitude = (2 * turned) ** -0.5
    block.query_scale.weight[0] = loud / amplitude
    queries, keys, values = (block.qkv.weight[n * width : n * width + head] for n in range(3))
    for rows in (queries, keys):
        rows.zero_()
    block.qkv.bias[:head] = block.qkv.bias[width : width + head] = 0
    axes = (0, head // 4)  # first frequency of rows and of columns; imaginary parts head / 2 on
    for scale, (pair, size) in enumerate(zip(kernels, sizes, strict=True)):
        mark = layout.mark(scale)
        for axis, kernel in zip(axes, pair, strict=True):
            for part, offset in enumerate((0, head // 2)):
                queries[axis + offset : axis + offset + turned, mark] = kernel[part] / loud
        queries[head // 4 - 1, mark] = max(0.0, 1 - size / loud**2) ** 0.5  # met by no key
        keys[head // 4 - 2, mark] = 1  # met by no query
    prefix = layout.mark(layout.scales)
    keys[:, prefix] = 0
    for axis in axes:
        keys[axis : axis + turned, prefix] = amplitude
    values[: layout.channels] = 0
    values[: layout.channels, layout.estimate] = torch.eye(layout.channels).to(values)
    for layer in (block.projection, block.fc2):
        clear_rows(layer, layout.end)
    block.projection.weight[average, : layout.channels] = torch.eye(layout.channels).to(
        block.projection.weight
    )


def _kernel(side: int, final: int, part: tuple[float, float], head: int) -> Tensor:
    """Amplitudes (2, head / 4 - UNTURNED) of cosines and sines whose softmax over the prefix comes
    closest to averaging over a part of a token: an exponential family, hence convex.

    A token covers the cells that its value is the mean of (Quantizer.downsample): whole ones.
    """
    frequencies = BASE ** (-4 * torch.arange(head // 4, dtype=torch.float64) / head)
    index, cells = torch.arange(side), torch.arange(final).double()
    first, end = index * final // side, -((index + 1) * final // -side)
    low, high = (first + share * (end - first).double() for share in part)
    shared = torch.minimum(high[:, None], cells + 1) - torch.maximum(low[:, None], cells)
    shared = shared.clamp(min=0) / (high - low)[:, None]
    offsets = cells / final - (index / side).double()[:, None]
    angles = offsets[:, :, None] * GRID * frequencies
    angles = angles[:, :, : head // 4 - UNTURNED]
    waves = torch.stack((angles.cos(), angles.sin()))
    amplitudes = torch.zeros(2, 1, 1, head // 4 - UNTURNED, dtype=torch.float64)
    with torch.enable_grad():
        amplitudes.requires_grad_(True)
        solver = torch.optim.LBFGS([amplitudes], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            logits = (waves * amplitudes).sum(dim=(0, 3))
            value = -(shared * logits.log_softmax(dim=1)).sum(dim=1).mean()
            value = value + KERNEL_RIDGE * amplitudes.square().sum()
            value.backward()
            return value

        solver.step(loss)
    return amplitudes.detach()[:, 0, 0].float()
