"""The schedule of token maps: which sides, how many tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..files.lazy_tensor import StateDict

MAX_TILE = 8192  # pixels; one of them in a file of a few bytes would fill any memory


@dataclass(frozen=True)
class ScaleSchedule:
    """Square token maps of growing side, predicted one after the other (paper, section 3.1)."""

    sides: tuple[int, ...]

    def __post_init__(self) -> None:
        growing = all(a < b for a, b in zip(self.sides, self.sides[1:], strict=False))
        if not self.sides or self.sides[0] != 1 or not growing:
            raise ValueError(f"a schedule starts at side 1 and grows; got {self.sides}")

    def check_tile(self, pixels: int) -> None:
        """Refuses tiles that no memory holds. Raises ValueError. pixels: per token, along a side"""
        tile = self.final_side * pixels
        if tile > MAX_TILE:
            raise ValueError(
                f"token maps of side {self.final_side} make tiles of {tile} pixels; at most "
                f"{MAX_TILE} are expected"
            )

    @property
    def num_scales(self) -> int:
        return len(self.sides)

    @property
    def final_side(self) -> int:
        return self.sides[-1]

    @property
    def num_tokens(self) -> int:
        """Tokens of all scales together."""
        return sum(side * side for side in self.sides)


def whole_numbers(weights: StateDict, name: str, dimensions: int) -> tuple[int, ...]:
    """The values of a tensor that tells sizes. Raises KeyError or ValueError.

    dimensions: 0 for a single number, 1 for a list
    """
    tensor = weights[name].detach()
    kind = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    if not kind or tensor.dim() != dimensions or tensor.numel() > MAX_TILE:
        wanted = "a list of whole numbers" if dimensions else "a whole number"
        raise ValueError(
            f"{name} is of {tensor.dtype} and shape {tuple(tensor.shape)}; {wanted} is expected"
        )
    return tuple(tensor.flatten().tolist())


def check_division(what: str, widths: tuple[int, ...], parts: int) -> None:
    """Refuses parts into which some widths do not divide. Raises ValueError."""
    if parts < 1 or any(width % parts for width in widths):
        raise ValueError(f"{what}: widths {widths} do not divide into {parts} parts")
