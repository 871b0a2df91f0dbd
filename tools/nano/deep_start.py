"""A deep prefix that begins with what some blocks of the teacher have learned.

Its first layer is fitted to the teacher's, which sees the low-quality picture before it is
enlarged; its blocks are the teacher's; its last layer is fitted to what the other layers of the
prefix encoder leave open of the target's latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.nano.teacher import DENSE_BLOCKS, DENSE_LAYERS, SCALE, Teacher
from varsr_core.images.resize import resize
from varsr_core.nn.least_squares import LeastSquares
from varsr_core.training.data.paired_folders import match
from varsr_core.training.data.pictures import load_picture
from varsr_core.training.stages.prefix import estimate_channels, estimated_latent
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.prefix_encoder import REDUCTION, DeepPrefix

AT_ONCE = 16  # tiles
CONVOLUTIONS = DENSE_BLOCKS * (DENSE_LAYERS + 1)  # of a block


def tiles(low: Path, target: Path, side: int, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Tiles side by side of pairs of files, AT_ONCE at a time, until there are `most`.

    yields (N, 3, side / 4, side / 4) and (N, 3, side, side) in [0, 1]
    """
    small, large = side // SCALE, side
    pairs: list[tuple[Tensor, Tensor]] = []
    for files in match(low, target, side):
        lq, hq = (_read(path) for path in (files.low, files.target))
        for top in range(0, lq.shape[2] - small + 1, small):
            for left in range(0, lq.shape[3] - small + 1, small):
                y, x = top * SCALE, left * SCALE
                part = lq[:, :, top : top + small, left : left + small]
                pairs.append((part, hq[:, :, y : y + large, x : x + large]))
    step = max(1, len(pairs) // most)
    pairs = pairs[::step][:most]
    for first in range(0, len(pairs), AT_ONCE):
        lows, targets = zip(*pairs[first : first + AT_ONCE], strict=True)
        yield torch.cat(lows), torch.cat(targets)


@torch.no_grad()
def deep_start(
    model: VARSR,
    teacher: Teacher,
    numbers: Sequence[int],
    batches: Sequence[tuple[Tensor, Tensor]],
) -> float:
    """Sets model.prefix_encoder.deep; the other networks stay as they are.

    numbers: of the teacher's blocks, one for each block of the deep prefix
    batches: see tiles()
    returns  what is then left of the latent, as estimate_error() tells
    """
    deep = model.prefix_encoder.deep
    if deep is None or len(deep.blocks) != len(numbers):
        found = 0 if deep is None else len(deep.blocks)
        raise SystemExit(f"the sizes have {found} blocks as deep_prefix, {len(numbers)} are given")
    first = teacher.convolutions[0]
    inward = LeastSquares(deep.conv_in.weight[0].numel(), deep.conv_in.out_channels)
    for low, target in batches:
        lq = _enlarged(low, target)
        inward.add(_rows(F.pixel_unshuffle(lq, REDUCTION), deep.conv_in), _tokens(first(low)))
    _set(deep.conv_in, inward)
    for block, number in zip(deep.blocks, numbers, strict=True):
        at = 1 + number * CONVOLUTIONS
        layers = (layer for dense in block.blocks for layer in dense.convolutions)
        for ours, theirs in zip(layers, teacher.convolutions[at : at + CONVOLUTIONS], strict=True):
            ours.load_state_dict(theirs.state_dict())
    return _fit_last(model, deep, batches)


def _fit_last(model: VARSR, deep: DeepPrefix, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    channels = estimate_channels(model.config)
    nn.init.zeros_(deep.conv_out.weight)
    nn.init.zeros_(deep.conv_out.bias)
    squares = LeastSquares(deep.conv_out.weight[0].numel(), channels.stop)
    kept = []
    energy = 0.0
    for low, target in batches:
        lq, latent = _enlarged(low, target), model.encode_latent(target)
        left = latent - estimated_latent(model, model.encode_prefix(lq / 2 + 0.5))
        rows = _rows(deep.features(lq), deep.conv_out)
        squares.add(rows, _tokens(left))
        kept.append((rows, _tokens(left)))
        energy += latent.square().sum().item()
    weight, bias = squares.solve()
    deep.conv_out.weight[channels] = weight.view(-1, *deep.conv_out.weight.shape[1:])
    deep.conv_out.bias[channels] = bias
    return (
        sum((rest - (rows @ weight.T + bias)).square().sum().item() for rows, rest in kept) / energy
    )


def _read(path: Path) -> Tensor:
    return torch.from_numpy(load_picture(path)).permute(2, 0, 1)[None].float().div(255)


def _enlarged(low: Tensor, target: Tensor) -> Tensor:
    """As networks are given it: in [-1, 1]."""
    return resize(low, *target.shape[2:]) * 2 - 1


def _rows(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """What a convolution sees at every place: (places, inputs)."""
    kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
    return F.unfold(x, kernel, stride=stride, padding=padding).transpose(1, 2).flatten(0, 1)


def _tokens(x: Tensor) -> Tensor:
    return x.movedim(1, -1).flatten(0, 2)


def _set(layer: nn.Conv2d, squares: LeastSquares) -> None:
    weight, bias = squares.solve()
    layer.weight.copy_(weight.view(layer.weight.shape))
    layer.bias.copy_(bias)
