"""Mistakes for the restorer to see in training: some tokens are given as others near them.

When a restorer samples, each scale builds on its own tokens, of which some are wrong, mostly by a
little: a code near the right one. Taught on right tokens alone it has never met that. Here tokens
are replaced at random by near ones, and what the later scales are to say is found anew from there,
so that they learn to make up for it. The idea of near codes is that of dynamic sampling (Zheng et
al., "DVAR: Dynamic Visual Autoregressive Modeling for Image Super-Resolution", CVPR 2026), that of
targets found anew is Infinity's self-correction (Han et al. 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...runtime.precision import without_autocast
from ...varsr.model import VARSR
from ...varsr.quantizer import Quantizer
from ..steps.draws import Rows, draw_rows, rows_of
from .encoded_target import EncodedTarget, encode_latent


@dataclass(frozen=True)
class DynamicSampling:
    """share: largest share of a picture's tokens that are replaced; each picture draws its own
              from 0 to this. 0: none
    near:     how many codes around the right one a replacement is drawn from
    """

    share: float = 0.0
    near: int = 16


@torch.no_grad()
def encode_mistaken(
    model: VARSR, latent: Tensor, settings: DynamicSampling, generator: torch.Generator
) -> EncodedTarget:
    """Tokens to be learned and the latents, mistaken here and there, that they build on.

    latent:    (N, C, S, S) float32
    generator: on the CPU; draws which tokens are replaced, and by which
    """
    if settings.share == 0:
        return encode_latent(model, latent)
    with without_autocast(latent.device):
        return _encode(model.quantizer, latent, settings, generator)


def _encode(
    quantizer: Quantizer, latent: Tensor, settings: DynamicSampling, generator: torch.Generator
) -> EncodedTarget:
    near = near_codes(quantizer, settings.near)
    rows = rows_of(generator, len(latent))
    shares = draw_rows(generator, rows, lambda n: torch.rand(n, 1, generator=generator))
    shares = settings.share * shares
    total, rest, before = torch.zeros_like(latent), latent, latent
    ids, latents = [], []
    last = quantizer.schedule.num_scales - 1
    for scale in range(last + 1):
        before = rest
        ids.append(quantizer.nearest(quantizer.downsample(rest, scale)))
        drawn, which = _draw(ids[-1].shape[1], near.shape[1], rows, generator)
        drawn = drawn < shares
        given = ids[-1]
        if scale < last:  # nothing builds on the last tokens
            other = near[given, which.to(given.device)]
            given = torch.where(drawn.to(given.device), other, given)
        residual = quantizer.residual(given, scale)
        total, rest = total + residual, rest - residual
        latents.append(total)
    return EncodedTarget(torch.cat(ids, dim=1), torch.stack(latents, dim=1), before)


def _draw(
    tokens: int, choices: int, rows: Rows, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """For every token of one scale a number in [0, 1), and one of so many choices: (N, tokens)."""

    def shares(count: int) -> Tensor:
        return torch.rand(count, tokens, generator=generator)

    def which(count: int) -> Tensor:
        return torch.randint(choices, (count, tokens), generator=generator)

    return draw_rows(generator, rows, shares), draw_rows(generator, rows, which)


def near_codes(quantizer: Quantizer, count: int) -> Tensor:
    """For every code the `count` nearest others, nearest first: (V, count) int64."""
    codes = quantizer.codebook.weight.detach().float()
    distances = torch.cdist(codes, codes)
    distances.fill_diagonal_(float("inf"))
    return distances.topk(min(count, len(codes) - 1), largest=False).indices
