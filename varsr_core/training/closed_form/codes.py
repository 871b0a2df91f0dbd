"""The last MLP and the head of a new restorer, solved for: codes near a guess are likely.

The quantizer takes the code nearest to what is left of the latent; so does this, of what is left by
a linear estimate, softly. A Gaussian fitted to the codes themselves fits them far worse: they lie
around what is left as their cells happen to lie.

Activations are passed unharmed in pairs: gelu(x) - gelu(-x) = x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nn.least_squares import LeastSquares
from ...varsr.model import VARSR
from ...varsr.transformer import Block
from ..stages.encoded_target import EncodedPair
from ..steps.teacher_forcing import all_hidden
from .stream_layout import MARK, StreamLayout

GATE = 24.0  # how far below zero a closed gelu is held, in deviations of what it carries
CODE_SIZE = 4.0  # of the estimate of the code in the stream, at the scale where it is largest
HELD_OUT = 8  # one in so many tokens is only looked at to choose the sharpness
HELD_OUT_ROWS = 8192  # that are enough for it
SHARPNESS = tuple(2.0**power for power in range(-6, 6))  # tried, over the mean square to be guessed


@dataclass(frozen=True)
class Guess:
    """Logits of one scale: codebook @ (affine @ (evidence, 1)) + bias.

    affine: (C, evidence + 1) what is left of the latent, times sharpness; bias: (V,)
    """

    affine: Tensor
    bias: Tensor


def code_start(model: VARSR, layout: StreamLayout, batches: Sequence[EncodedPair]) -> None:
    """Sets the last MLP, whose gates open at one scale each, to the scale's guess, and the head to
    the logits of the codes near it.
    """
    transformer, codes = model.transformer, model.quantizer.codebook.weight
    schedule = model.config.schedule
    counts = [side * side for side in schedule.sides]
    inputs = _inputs_of_last_mlp(model, batches).split(counts, dim=1)
    ids = torch.cat([target.token_ids for _, _, target in batches]).split(counts, dim=1)
    left = _left(model, batches)
    evidence = [tokens[:, :, layout.evidence].flatten(0, 1) for tokens in inputs]
    guesses = [
        _guess(rows, wanted.flatten(), rest.flatten(0, 1), codes)
        for rows, wanted, rest in zip(evidence, ids, left, strict=True)
    ]
    affines = torch.stack([guess.affine for guess in guesses])
    sizes = torch.stack([_sizes(affine, evidence) for affine in affines])
    height = CODE_SIZE / sizes.max()
    block = transformer.blocks[-1]
    for scale, tokens in enumerate(inputs):
        mark = tokens[:, :, layout.mark(scale)].mean().item()
        _set_gates(block, layout, scale, affines[scale], sizes[scale], mark, height)
    lq, classes, target = batches[0]
    hidden = all_hidden(model, model.encode_prefix(lq), target.latents.unbind(1), classes)
    hidden = F.layer_norm(hidden, hidden.shape[-1:])
    shared = guesses[-1].bias  # exact where half of all tokens are; elsewhere marks waver a little
    transformer.head.weight[:, : layout.end] = 0
    transformer.head.weight[:, layout.code] = codes / height
    transformer.head.bias.copy_(shared)
    for scale, tokens in enumerate(hidden.split(counts, dim=1)):
        mark = tokens[:, :, layout.mark(scale)].mean()
        transformer.head.weight[:, layout.mark(scale)] = (guesses[scale].bias - shared) / mark
        gates = slice(2 * layout.channels * scale, 2 * layout.channels * (scale + 1))
        block.fc2.weight[layout.code, gates] *= MARK / mark  # what the last norm divides by
    transformer.head.weight[:, layout.empty] = -transformer.head.weight[:, : layout.end].sum(dim=1)


def _inputs_of_last_mlp(model: VARSR, batches: Sequence[EncodedPair]) -> Tensor:
    """Of the tokens of all scales: (N, tokens, D), behind norm and modulation."""
    seen: list[Tensor] = []
    layer = model.transformer.blocks[-1].fc1
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokens = model.config.schedule.num_tokens
    kept = []
    for lq, classes, target in batches:
        all_hidden(model, model.encode_prefix(lq), target.latents.unbind(1), classes)
        kept.append(seen.pop()[:, -tokens:])
    hook.remove()
    return torch.cat(kept)


def _left(model: VARSR, batches: Sequence[EncodedPair]) -> list[Tensor]:
    """What each scale's codes are to come close to: (N, side * side, C) of every scale."""
    latents = torch.cat([target.latents for _, _, target in batches])
    whole = torch.cat([target.whole for _, _, target in batches])
    before = (torch.zeros_like(whole), *latents[:, :-1].unbind(1))
    return [model.quantizer.downsample(whole - total, k) for k, total in enumerate(before)]


def _guess(evidence: Tensor, ids: Tensor, left: Tensor, codes: Tensor) -> Guess:
    """Logits -sharpness |code - guess|^2 / 2, as sharp as fits unseen tokens best.

    evidence: (rows, E); ids: (rows,); left: (rows, C) what the codes stand for; codes: (V, C)
    """
    seen = len(ids) - max(1, len(ids) // HELD_OUT)
    fit = LeastSquares(evidence.shape[1], codes.shape[1])
    fit.add(evidence[:seen], left[:seen])
    weight, bias = fit.solve()
    generator = torch.Generator().manual_seed(0)
    held = seen + torch.randperm(len(ids) - seen, generator=generator)[:HELD_OUT_ROWS]
    guessed = evidence[held] @ weight.T.to(codes) + bias.to(codes)
    closeness = guessed @ codes.T - codes.square().sum(dim=1) / 2
    unit = 1 / left.square().mean().item()
    losses = {s: F.cross_entropy(s * unit * closeness, ids[held]).item() for s in SHARPNESS}
    sharpness = min(losses, key=losses.__getitem__) * unit
    affine = sharpness * torch.cat((weight, bias[:, None]), dim=1).to(codes)
    return Guess(affine, -sharpness * codes.square().sum(dim=1) / 2)


def _sizes(affine: Tensor, evidence: Sequence[Tensor]) -> Tensor:
    """Roots of mean squares of what a map gives, in the scale where they are largest: (C,)."""
    given = [rows @ affine[:, :-1].T + affine[:, -1] for rows in evidence]
    return torch.stack([rows.square().mean(dim=0).sqrt() for rows in given]).amax(dim=0)


def _set_gates(
    block: Block,
    layout: StreamLayout,
    scale: int,
    affine: Tensor,
    size: Tensor,
    mark: float,
    height: Tensor,
) -> None:
    """A pair of hidden units for each channel, open only where the mark of `scale` stands.

    affine: (C, evidence + 1); size: (C,) of what it gives; height: factor that the code gets
    """
    channels, evidence = layout.channels, layout.evidence
    unit = affine / size[:, None]
    for sign, first in ((1, 2 * channels * scale), (-1, channels * (2 * scale + 1))):
        rows = torch.arange(first, first + channels)
        block.fc1.weight[rows] = 0
        block.fc1.weight[rows[:, None], evidence] = sign * unit[:, :-1]
        for other in range(layout.scales + 1):
            block.fc1.weight[rows, layout.mark(other)] = 0 if other == scale else -GATE / mark
        block.fc1.weight[rows, layout.empty] = layout.scales * GATE / mark
        block.fc1.bias[rows] = sign * unit[:, -1]
        block.fc2.weight[:, rows] = 0
        block.fc2.weight[layout.code, rows] = sign * height * size.diag()
