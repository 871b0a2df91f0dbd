"""What the user chooses of upscaling, whatever the family of models."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from .errors import InputError
from .images.color_fix import COLOR_MODES, ColorMode, check_mode
from .images.fidelity import check_fidelity
from .runtime.defaults import AUTO_CHOICE
from .tiling.consistency import Tiling
from .tiling.steady import check_steady

ColorChoice = ColorMode | Literal["auto"]
COLOR_CHOICES = (AUTO_CHOICE, *COLOR_MODES)


@dataclass(frozen=True)
class UpscaleSettings:
    """The user's choices that no model family knows of.

    tiling:         how pictures larger than a tile are worked on
    color_fix:      how colours are matched to the input, over the whole picture; auto: as is best
                    for the model
    color_strength: 0 leaves the model's colours, 1 takes the input's fully
    feather:        pixels of the output over which a mask fades in, inwards from its edge
    fidelity:       how much of the input is kept, coarse before fine: 0 the model alone, 1 the
                    input, plainly enlarged; below 0 so many times the model's own
    shrink_first:   megapixels to which a larger input is shrunk for the model; 0 leaves it. What
                    was enlarged before, or is soft at its size, restores better from less
    steady:         of the frames of a film: how far each is brought towards the one before where
                    the picture is still, 0 (each by itself) to 1
    """

    tiling: Tiling = field(default_factory=Tiling)
    color_fix: ColorChoice = AUTO_CHOICE
    color_strength: float = 1.0
    feather: int = 16
    fidelity: float = 0.0
    shrink_first: float = 0.0
    steady: float = 0.0

    def __post_init__(self) -> None:
        if self.color_fix != AUTO_CHOICE:
            check_mode(self.color_fix)
        check_fidelity(abs(self.fidelity))
        check_steady(self.steady)
        if not 0 <= self.shrink_first < math.inf:
            raise InputError(
                f"shrink_first is {self.shrink_first}; megapixels, or 0 for off, are expected"
            )
        if not 0 <= self.color_strength <= 1:
            raise InputError(f"color_strength is {self.color_strength}; 0 to 1 is expected")
        if self.feather < 0:
            raise InputError(f"feather is {self.feather}; 0 pixels or more are expected")
