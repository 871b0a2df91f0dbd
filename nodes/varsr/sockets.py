"""Socket types of VARSR: its own, so that ComfyUI itself refuses a wire to another family."""

from __future__ import annotations

from dataclasses import dataclass

from ...varsr_core.varsr.results import Prefix, TokenPyramid
from ..host import LoadedModel
from ..sockets import socket


@dataclass(frozen=True)
class LoadedVARSR(LoadedModel):
    """unguided_scales: how many of the last ones are sampled without guidance."""

    unguided_scales: int = 0


VARSRModel = socket("VARSR_MODEL", LoadedVARSR)
VARSRPrefix = socket("VARSR_PREFIX", Prefix)
VARSRTokens = socket("VARSR_TOKENS", TokenPyramid)
