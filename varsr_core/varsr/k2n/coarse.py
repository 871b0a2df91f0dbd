"""The first token maps of tiles by K2N: what VARSR is given, and whether the two fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ...errors import InputError
from ...runtime.defaults import ModelDefaults
from ..config import VARSRConfig
from ..model import VARSR
from .config import GUIDANCE, USUAL_SCALES, K2NConfig
from .kind import codebook_digest
from .model import K2N

NEEDS = (
    "K2N is made for the released VARSR model (Get VARSR Model, or Load VARSR Model with "
    "VARSR.pth); varsr_nano and other models do not fit"
)


@dataclass(frozen=True)
class Coarse:
    """K2N, and how many scales it is to give. Raises InputError where it gives fewer."""

    network: K2N
    scales: int = 0  # 0 for the usual number

    def __post_init__(self) -> None:
        there = self.network.config.scales
        object.__setattr__(self, "scales", self.scales or min(USUAL_SCALES, there))
        check_scales(self.scales, self.network.config)

    def check(self, model: VARSR) -> None:
        """Raises InputError where the model is not the one that K2N was made for."""
        codebook = model.quantizer.codebook.weight
        check_fit(self.network.config, model.config, codebook)

    def token_ids(self, model: VARSR, lq: Tensor) -> list[Tensor]:
        """(N, 3, lq_size, lq_size) in [0, 1] -> ids (N, side * side) of each scale."""
        return [nearest(model, found) for found in self.network(lq, self.scales)]


def with_coarse(defaults: ModelDefaults) -> ModelDefaults:
    """A model's own values, where its first scales are given: the published guidance."""
    return replace(defaults, guidance=GUIDANCE)


def nearest(model: VARSR, found: Tensor) -> Tensor:
    """A map (N, C, side, side) as ids of VARSR's codebook, (N, side * side)."""
    return model.quantizer.nearest(found.float().flatten(2).transpose(1, 2))


def check_scales(scales: int, config: K2NConfig) -> None:
    if not 0 < scales <= config.scales:
        raise InputError(
            f"scales is {scales}; this K2N file gives 1 to {config.scales}. Convert K2NSR.pth with "
            "--scales 5 for more"
        )


def check_fit(k2n: K2NConfig, varsr: VARSRConfig, codebook: Tensor) -> None:
    """Raises InputError for a VARSR that K2N was not made for.

    codebook: of the VARSR
    """
    channels = varsr.tokenizer.latent_channels, k2n.encoder.latent_channels
    faults = []
    final, first = varsr.schedule.final_side, varsr.schedule.sides[: k2n.scales]
    if final != k2n.maps.side:
        faults.append(f"its latent has {_square(final)} cells, not {_square(k2n.maps.side)}")
    if first != k2n.sides:
        faults.append(f"its token maps begin with {_listed(first)}, not {_listed(k2n.sides)}")
    if channels[0] != channels[1]:
        faults.append(f"its latent has {channels[0]} channels, not {channels[1]}")
    if varsr.tokenizer.downsampling != k2n.encoder.downsampling:
        faults.append(
            f"its tokens have {_square(varsr.tokenizer.downsampling)} pixels, not "
            f"{_square(k2n.encoder.downsampling)}"
        )
    if not faults and _is_other(k2n, codebook):
        faults.append("its codebook is another than the one that K2N was trained with")
    if faults:
        raise InputError(f"this VARSR model does not suit K2N: {'; '.join(faults)}. {NEEDS}")


def _is_other(k2n: K2NConfig, codebook: Tensor) -> bool:
    if not (k2n.codebook or k2n.other_codebook):
        return False
    found = bytes(codebook_digest(codebook).tolist())
    return found == k2n.other_codebook or (bool(k2n.codebook) and found != k2n.codebook)


def _square(side: int) -> str:
    return f"{side}x{side}"


def _listed(sides: tuple[int, ...]) -> str:
    return ", ".join(map(str, sides))
