"""Socket types of VARSR: its own, so that ComfyUI itself refuses a wire to another family."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_patcher

from ...varsr_core.varsr.k2n.coarse import Coarse
from ...varsr_core.varsr.k2n.model import K2N
from ...varsr_core.varsr.results import Prefix, TokenPyramid
from ..host import LoadedModel
from ..sockets import socket


@dataclass(frozen=True)
class LoadedVARSR(LoadedModel):
    """unguided_scales: how many of the last ones are sampled without guidance."""

    unguided_scales: int = 0


@dataclass(frozen=True)
class LoadedK2N:
    """K2N under ComfyUI's memory management."""

    network: K2N
    patcher: comfy.model_patcher.ModelPatcher

    def coarse(self, scales: int = 0) -> Coarse:
        """What gives so many scales; 0 for the usual number."""
        return Coarse(self.network, scales)


VARSRModel = socket("VARSR_MODEL", LoadedVARSR)
VARSRPrefix = socket("VARSR_PREFIX", Prefix)
VARSRTokens = socket("VARSR_TOKENS", TokenPyramid)
VARSRK2N = socket("VARSR_K2N", LoadedK2N)
