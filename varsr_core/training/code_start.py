"""The last MLP and the head of a new restorer, solved for: logits of a Gaussian around a guess.

Activations are passed unharmed in pairs: gelu(x) - gelu(-x) = x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..least_squares import LeastSquares
from ..varsr.model import VARSR
from .stream_places import LEVEL, Places, Sample
from .teacher_forcing import all_hidden

GATE = 24.0  # how far below zero a closed gelu is held, in deviations of what it carries
CODE_SIZE = 4.0  # of the estimate of the code in the stream, at the scale where it is largest
PRIOR = 0.01  # of the mean variance, added to all; more where few tokens were seen
PRIOR_ROWS = 1000
HELD_OUT = 8  # one in so many tokens is only looked at to choose the sharpness
SHARPNESS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)  # shares of the precision that are tried
SMOOTHING = 0.1  # tokens that every code is taken to have been seen with
MATCHING_ROUNDS = 8
MATCHED_ROWS = 8192


@dataclass(frozen=True)
class Guess:
    """Logits of one scale: codebook @ (affine @ (evidence, 1)) + bias.

    affine: (C, evidence + 1) the expected code over its covariance; bias: (V,)
    """

    affine: Tensor
    bias: Tensor


def code_start(model: VARSR, where: Places, samples: Sequence[Sample]) -> None:
    """Last MLP: gates, open at one scale each, give each scale its own guess. Head: its logits."""
    transformer, codes = model.transformer, model.quantizer.codebook.weight
    counts = [side * side for side in model.config.schedule.sides]
    inputs = _inputs_of_last_mlp(model, samples).split(counts, dim=1)
    ids = torch.cat([target.token_ids for _, _, target in samples]).split(counts, dim=1)
    evidence = [tokens[:, :, where.evidence].flatten(0, 1) for tokens in inputs]
    guesses = [
        _guess(rows, wanted.flatten(), codes) for rows, wanted in zip(evidence, ids, strict=True)
    ]
    affines = torch.stack([guess.affine for guess in guesses])
    sizes = torch.stack([_sizes(affine, evidence) for affine in affines])
    height = CODE_SIZE / sizes.max()
    block = transformer.blocks[-1]
    for scale, tokens in enumerate(inputs):
        mark = tokens[:, :, where.level(scale)].mean().item()
        _set_gates(block, where, scale, affines[scale], sizes[scale], mark, height)
    lq, classes, target = samples[0]
    hidden = all_hidden(model, model.encode_prefix(lq), target.latents.unbind(1), classes)
    hidden = F.layer_norm(hidden, hidden.shape[-1:])
    shared = guesses[-1].bias  # exact where half of all tokens are; elsewhere marks waver a little
    transformer.head.weight[:, : where.end] = 0
    transformer.head.weight[:, where.code] = codes / height
    transformer.head.bias.copy_(shared)
    for scale, tokens in enumerate(hidden.split(counts, dim=1)):
        mark = tokens[:, :, where.level(scale)].mean()
        transformer.head.weight[:, where.level(scale)] = (guesses[scale].bias - shared) / mark
        gates = slice(2 * where.channels * scale, 2 * where.channels * (scale + 1))
        block.fc2.weight[where.code, gates] *= LEVEL / mark  # what the last norm divides by
    transformer.head.weight[:, where.empty] = -transformer.head.weight[:, : where.end].sum(dim=1)


def _inputs_of_last_mlp(model: VARSR, samples: Sequence[Sample]) -> Tensor:
    """Of the tokens of all scales: (N, tokens, D), behind norm and modulation."""
    seen: list[Tensor] = []
    layer = model.transformer.blocks[-1].fc1
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokens = model.config.schedule.num_tokens
    kept = []
    for lq, classes, target in samples:
        all_hidden(model, model.encode_prefix(lq), target.latents.unbind(1), classes)
        kept.append(seen.pop()[:, -tokens:])
    hook.remove()
    return torch.cat(kept)


def _guess(evidence: Tensor, ids: Tensor, codes: Tensor) -> Guess:
    """A Gaussian around the code that the evidence makes us expect.

    log N(c; m, S) = c S^-1 m - c S^-1 c / 2 + what all codes share. The codes' distribution is no
    Gaussian: S is widened until the logits fit unseen tokens best, and the bias made to give codes
    their frequency.
    """
    seen = len(ids) - max(1, len(ids) // HELD_OUT)
    fit = LeastSquares(evidence.shape[1], codes.shape[1])
    fit.add(evidence[:seen], codes[ids[:seen]])
    weight, bias = fit.solve()
    covariance = fit.covariance()
    covariance.diagonal().add_(PRIOR * (1 + PRIOR_ROWS / fit.rows) * covariance.diagonal().mean())
    precision = torch.linalg.inv(covariance).to(codes)
    affine = precision @ torch.cat((weight, bias[:, None]), dim=1).to(codes)
    norms = torch.einsum("vc,cd,vd->v", codes, precision, codes) / 2
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(seen, generator=generator)[:MATCHED_ROWS]
    held = seen + torch.randperm(len(ids) - seen, generator=generator)[:MATCHED_ROWS]
    logits, unseen = (
        (evidence[rows] @ affine[:, :-1].T + affine[:, -1]) @ codes.T for rows in (chosen, held)
    )
    tried = []
    for share in SHARPNESS:
        matched = _matched(share * logits, -share * norms, ids[chosen])
        loss = F.cross_entropy(share * unseen + matched, ids[held]).item()
        tried.append((loss, Guess(share * affine, matched)))
    return min(tried, key=lambda pair: pair[0])[1]


def _matched(logits: Tensor, bias: Tensor, ids: Tensor) -> Tensor:
    """The bias (V,) with which codes are on average as likely as they are frequent."""
    smooth = torch.full_like(bias, SMOOTHING)
    frequency = torch.bincount(ids, minlength=len(bias)) + smooth
    for _ in range(MATCHING_ROUNDS):
        likely = (logits + bias).softmax(dim=1).sum(dim=0) + smooth
        bias = bias + (frequency / likely).log()
    return bias - bias.mean()


def _sizes(affine: Tensor, evidence: Sequence[Tensor]) -> Tensor:
    """Roots of mean squares of what a map gives, in the scale where they are largest: (C,)."""
    given = [rows @ affine[:, :-1].T + affine[:, -1] for rows in evidence]
    return torch.stack([rows.square().mean(dim=0).sqrt() for rows in given]).amax(dim=0)


def _set_gates(
    block: nn.Module,
    where: Places,
    scale: int,
    affine: Tensor,
    size: Tensor,
    mark: float,
    height: Tensor,
) -> None:
    """A pair of hidden units for each channel, open only where the mark of `scale` stands.

    affine: (C, evidence + 1); size: (C,) of what it gives; height: factor that the code gets
    """
    channels, evidence = where.channels, where.evidence
    unit = affine / size[:, None]
    for sign, first in ((1, 2 * channels * scale), (-1, channels * (2 * scale + 1))):
        rows = torch.arange(first, first + channels)
        block.fc1.weight[rows] = 0
        block.fc1.weight[rows[:, None], evidence] = sign * unit[:, :-1]
        for other in range(where.scales + 1):
            block.fc1.weight[rows, where.level(other)] = 0 if other == scale else -GATE / mark
        block.fc1.weight[rows, where.empty] = where.scales * GATE / mark
        block.fc1.bias[rows] = sign * unit[:, -1]
        block.fc2.weight[:, rows] = 0
        block.fc2.weight[where.code, rows] = sign * height * size.diag()
