"""How much work K2N is on one tile; see runtime/work.py."""

from __future__ import annotations

from ...nn.work import encoder_parts, map_parts
from ...runtime.progress import ENCODING
from ...runtime.work import Task
from .coarse import Coarse


def coarse_task(coarse: Coarse) -> Task:
    """The encoder, and the maps that are wanted."""
    network, side = coarse.network, coarse.network.lq_size
    parts = encoder_parts(network.encoder, side, side)
    parts += map_parts(network.maps, network.config.maps, coarse.scales)
    return Task(ENCODING, parts)
