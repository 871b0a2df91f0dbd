"""Group norms whose statistics are those of a whole canvas, while pieces of it are decoded.

A group norm measures what it is given. Decoded piece by piece, a canvas would be normed by each
piece's own statistics, and brightness would step from piece to piece. So the statistics are
measured once, layer by layer, and every piece is normed by the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NormFn = Callable[[nn.GroupNorm, Tensor], Tensor]
"""Applies a norm layer to (N, C, H, W)."""

CropFn = Callable[[Tensor], Tensor]

CACHED = 2**18  # float32 values that a core's cache holds


def own_norm(layer: nn.GroupNorm, x: Tensor) -> Tensor:
    """As the layer itself does it: with the statistics of x."""
    return layer(x)


@dataclass(frozen=True)
class _Measured:
    """One layer: mean, variance and the layer's weights, all (C,) float32."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float

    def apply(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.mean, self.variance, self.weight, self.bias, training=False, eps=self.eps
        )


class _EnoughError(Exception):
    """Ends a run at the layer that is being measured; its input's dtype and device are `like`'s."""

    def __init__(self, layer: nn.GroupNorm, like: Tensor) -> None:
        self.layer, self.like = layer, like


@dataclass
class NormStatistics:
    """Statistics of the norms of a network, in the order in which it calls them."""

    layers: list[_Measured] = field(default_factory=list)

    @staticmethod
    def measure(run: Callable[[NormFn], object]) -> NormStatistics:
        """From one run of all samples together; run: calls the network with the norm it is given"""
        statistics = NormStatistics()

        def norm(layer: nn.GroupNorm, x: Tensor) -> Tensor:
            statistics.layers.append(_layer(layer, x, _moments(layer, x)))
            return statistics.layers[-1].apply(x)

        run(norm)
        return statistics

    @staticmethod
    def measure_apart(runs: Sequence[tuple[Callable[[NormFn], object], CropFn]]) -> NormStatistics:
        """The same from several runs, once for each layer: slow, in the memory of one run.

        runs: as in `measure`, and what to keep of a layer's input; what is kept makes the whole
        """
        statistics = NormStatistics()
        while statistics._measure_next(runs):
            pass
        return statistics

    def _measure_next(self, runs: Sequence[tuple[Callable[[NormFn], object], CropFn]]) -> bool:
        """Measures the layer behind those that are known; False when there is none."""
        parts: list[_Moments] = []
        stopped: tuple[nn.GroupNorm, Tensor] | None = None
        for run, crop in runs:
            known = iter(self.layers)

            def norm(
                layer: nn.GroupNorm,
                x: Tensor,
                known: Iterator[_Measured] = known,
                crop: CropFn = crop,
            ) -> Tensor:
                measured = next(known, None)
                if measured is not None:
                    return measured.apply(x)
                parts.append(_moments(layer, crop(x)))
                raise _EnoughError(layer, x[:0])

            try:
                run(norm)
            except _EnoughError as enough:
                stopped = enough.layer, enough.like
            else:
                return False
        if stopped is None:
            return False
        self.layers.append(_layer(*stopped, _together(parts)))
        return True

    def norm(self) -> NormFn:
        """For one run of the network: applies what was measured."""
        known = iter(self.layers)
        return lambda layer, x: next(known).apply(x)


@dataclass(frozen=True)
class _Moments:
    """How many values a group has, their mean and their variance, (groups,), where they lie.

    Looked at by nobody, so that a card need not be waited for at every layer. In float64 on a CPU;
    elsewhere in float32, since not every card has more: nothing is summed from which much is taken
    away later.
    """

    count: float
    mean: Tensor
    variance: Tensor


def _together(parts: Sequence[_Moments]) -> _Moments:
    """Of all values of the parts (Chan, Golub & LeVeque, 1979)."""
    count = sum(part.count for part in parts)
    mean = sum((part.mean * (part.count / count) for part in parts), torch.zeros(()))
    around = (
        (part.variance + (part.mean - mean).square()) * (part.count / count) for part in parts
    )
    return _Moments(count, mean, sum(around, torch.zeros(())))


def _moments(layer: nn.GroupNorm, x: Tensor) -> _Moments:
    if x.device.type == "cpu" and x.is_contiguous():
        return _moments_in_cache(layer, x)
    groups = x.unflatten(1, (layer.num_groups, -1)).float()
    variance, mean = torch.var_mean(groups, dim=(0, 2, 3, 4), correction=0)
    return _Moments(groups.numel() / layer.num_groups, mean, variance)


def _moments_in_cache(layer: nn.GroupNorm, x: Tensor) -> _Moments:
    """The same, a few maps at a time: all at once take several times as long on a CPU."""
    maps = x.flatten(2).flatten(0, 1)
    count = maps.shape[1]
    sums = []
    for few in maps.split(max(1, CACHED // count)):
        values = few.float()
        mean = values.mean(1, keepdim=True)
        spread = (values - mean).square().sum(1).double()  # of small numbers: it stays exact
        mean = mean[:, 0].double()
        sums.append(torch.stack((mean * count, spread + mean.square() * count)))
    of_channels = torch.cat(sums, dim=1).unflatten(1, (len(x), layer.num_groups, -1))
    total, squares = of_channels.sum(dim=(1, 3))
    count = x.numel() / layer.num_groups
    mean = total / count
    return _Moments(count, mean, (squares / count - mean.square()).clamp(min=0))


def _layer(layer: nn.GroupNorm, x: Tensor, moments: _Moments) -> _Measured:
    per_group = layer.num_channels // layer.num_groups
    both = torch.stack((moments.mean, moments.variance)).float()
    mean, variance = both.repeat_interleave(per_group, dim=1)
    weight, bias = _affine(layer, x)
    return _Measured(mean, variance, weight, bias, layer.eps)


def _affine(layer: nn.GroupNorm, like: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer, wherever its host keeps them: read off what it does.

    Hosts offload, cast and quantise weights, and only the layer itself knows how to get them.
    """
    probe = like.new_ones(1, layer.num_channels, 1, 2)
    probe[..., 1] = -1  # mean 0 and variance 1 in every group
    high, low = layer(probe).float()[0, :, 0].unbind(1)
    return (high - low) / 2 * (1 + layer.eps) ** 0.5, (high + low) / 2
