"""Tells decoded pictures from good ones, so that the decoder learns what good ones look like.

It looks at the feature maps that the perceptual loss has computed anyway, at several depths, and
says of every position whether it is real (hinge loss; projected discriminators, Sauer et al. 2021).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

HIDDEN = 32
SLOPE = 0.2


class Discriminator(nn.Module):
    """One small head for each feature map.

    channels: of the maps
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.heads = nn.ModuleList(
                nn.Sequential(
                    nn.Conv2d(width, HIDDEN, 3, stride=2, padding=1),
                    nn.LeakyReLU(SLOPE),
                    nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
                    nn.LeakyReLU(SLOPE),
                    nn.Conv2d(HIDDEN, 1, 1),
                )
                for width in channels
            )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Scores (N, 1, h, w) for each map, above zero for real."""
        return [head(features) for head, features in zip(self.heads, maps, strict=True)]


def adversarial_losses(
    judge: nn.Module, decoded: list[Tensor], real: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Scalars: the decoder's loss, which leaves the judge alone, and the judge's own.

    decoded, real: feature maps (N, C, h, w) of decoded and of good pictures
    """
    frozen = {name: parameter.detach() for name, parameter in judge.named_parameters()}
    fooled = functional_call(judge, frozen, (decoded,))
    seen = zip(judge([m.detach() for m in decoded]), judge([m.detach() for m in real]), strict=True)
    told = [F.relu(1 + fake).mean() + F.relu(1 - true).mean() for fake, true in seen]
    count = len(real)
    return -sum(scores.mean() for scores in fooled) / count, sum(told) / count
