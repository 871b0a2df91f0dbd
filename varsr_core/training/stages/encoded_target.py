"""A target picture as tokens and latents: what the restorer is taught to predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...runtime.precision import without_autocast
from ...varsr.model import VARSR


@dataclass(frozen=True)
class EncodedTarget:
    """Target pictures as the tokenizer encodes them.

    token_ids: (N, tokens of all scales) int64
    latents:   after each scale (N, scales, C, S, S) float32
    rest:      (N, C, S, S) what is left before the last scale
    """

    token_ids: Tensor
    latents: Tensor
    rest: Tensor

    @property
    def whole(self) -> Tensor:
        """The latent that was encoded: (N, C, S, S)."""
        return self.latents[:, -2] + self.rest


class EncodedPair(NamedTuple):
    """A batch of pairs to learn from.

    lq:      (N, 3, tile, tile) in [0, 1]
    classes: (N,) quality classes of the targets
    """

    lq: Tensor
    classes: Tensor
    target: EncodedTarget


def encode_target(model: VARSR, target: Tensor) -> EncodedTarget:
    """target: (N, 3, tile, tile) in [0, 1]."""
    with torch.no_grad():
        return encode_latent(model, model.encode_latent(target))


@torch.no_grad()
def encode_latent(model: VARSR, latent: Tensor) -> EncodedTarget:
    """latent: (N, C, S, S) float32."""
    with without_autocast(latent.device):  # nearest codes are found in float32
        ids, latents, rest = model.quantizer.encode(latent)
    return EncodedTarget(torch.cat(ids, dim=1), torch.stack(latents, dim=1), rest)
