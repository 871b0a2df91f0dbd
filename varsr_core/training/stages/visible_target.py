"""Targets that lack part of what the low-quality picture does not show.

A small model cannot learn which of many fine details to invent; what it then samples is noise.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ...varsr.model import VARSR, to_network
from .encoded_target import EncodedTarget, encode_latent
from .prefix import estimated_latent


class VisibleTarget:
    """Encodes good pictures, moved towards the prefix encoder's estimate of them; bad ones as they
    are. The estimate stays that of the moment when this is made, while the encoder learns on.

    unseen: share of the difference from the estimate that is kept; 1 for the paper's targets
    """

    def __init__(self, model: VARSR, unseen: float) -> None:
        self.model, self.unseen = model, unseen
        self.prefix_encoder = None  # unless there is an estimate to make
        if unseen < 1:
            self.prefix_encoder = copy.deepcopy(model.prefix_encoder).requires_grad_(False)

    @torch.no_grad()
    def __call__(self, lq: Tensor, target: Tensor, classes: Tensor) -> EncodedTarget:
        """lq, target: (N, 3, tile, tile) in [0, 1]; classes: (N,), 0 for good."""
        return encode_latent(self.model, self.latent(lq, target, classes))

    @torch.no_grad()
    def latent(self, lq: Tensor, target: Tensor, classes: Tensor) -> Tensor:
        """The same, not yet quantized: (N, C, S, S) float32."""
        model = self.model
        latent = model.encode_latent(target).float()
        if self.prefix_encoder is not None:
            estimate = estimated_latent(model, self.prefix_encoder(to_network(lq, model.dtype)))
            good = (classes == 0)[:, None, None, None]
            latent = torch.where(good, torch.lerp(estimate, latent, self.unseen), latent)
        return latent
