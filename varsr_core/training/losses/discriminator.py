"""Tells decoded pictures from good ones, so that the decoder learns what good ones look like.

It looks at the picture and at the feature maps that the perceptual loss has computed anyway, at
several depths, and says of every position whether it is real (hinge loss; projected discriminators,
Sauer et al. 2021).
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

HIDDEN = 32
SLOPE = 0.2
RATE = 4.0  # how much faster it learns than the decoder, without an optimiser of its own


class Discriminator(nn.Module):
    """One small head for each map. Weights are stored divided by RATE, hence move as much faster.

    channels: of the maps
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.heads = nn.ModuleList(_head(width) for width in channels)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.div_(RATE)

    def forward(self, maps: list[Tensor], taught: bool = True) -> list[Tensor]:
        """Scores (N, 1, h, w) for each map (N, C, H, W), above zero for real.

        taught: whether gradients reach the weights
        """
        return [
            functional_call(head, _weights(head, taught), (features,))
            for head, features in zip(self.heads, maps, strict=True)
        ]


def _head(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, HIDDEN, 3, stride=2, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(HIDDEN, 1, 1),
    )


def _weights(head: nn.Module, taught: bool) -> dict[str, Tensor]:
    return {
        name: RATE * (parameter if taught else parameter.detach())
        for name, parameter in head.named_parameters()
    }


def adversarial_losses(
    discriminator: Discriminator, decoded: list[Tensor], real: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Scalars: the decoder's loss, which leaves the discriminator alone, and the discriminator's.

    decoded, real: maps (N, C, h, w) of decoded and of good pictures
    """
    fooled = discriminator(decoded, taught=False)
    fakes = discriminator([m.detach() for m in decoded])
    trues = discriminator([m.detach() for m in real])
    told = [F.relu(1 + f).mean() + F.relu(1 - t).mean() for f, t in zip(fakes, trues, strict=True)]
    count = len(real)
    fooling = -reduce(torch.add, [scores.mean() for scores in fooled]) / count
    return fooling, reduce(torch.add, told) / count
