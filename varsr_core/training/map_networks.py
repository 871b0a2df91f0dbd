"""What map networks (see nn/map_network.py) have in training alone: first weights, and dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..nn.map_network import Layer, MapNetwork
from .steps.draws import rows_of

SEEDS = 2**62


def init_layers(network: nn.Module) -> None:
    """The transformer layers of a network as torch's own begin; all else begins so already."""
    for layer in _layers(network):
        nn.init.xavier_uniform_(layer.qkv.weight)
        nn.init.zeros_(layer.qkv.bias)
        nn.init.zeros_(layer.projection.bias)


def _layers(network: nn.Module) -> list[Layer]:
    return [module for module in network.modules() if isinstance(module, Layer)]


@contextmanager
def dropping(network: MapNetwork, share: float, generator: torch.Generator) -> Iterator[None]:
    """A context in which the transformer layers of a map network drop `share` of their values.

    generator: on the CPU; all that is dropped follows from it, so that a resumed run repeats it.
               The global random state, from which torch draws dropout, is as before afterwards
    """
    layers = _layers(network)
    device = next(network.parameters()).device
    # Other samples of a step drop other values, if not those that they would in one pass.
    seed = int(torch.randint(SEEDS, (), generator=generator)) + rows_of(generator, 1).first
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        try:
            for layer in layers:
                layer.dropout = share
            yield
        finally:
            for layer in layers:
                layer.dropout = 0.0
