"""What passes between the stages: the first scales of a picture, its text, and all scales."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..tiling.canvas import Canvas


@dataclass(frozen=True)
class Prefix:
    """The first scales of low-quality tiles, the same for every text and seed.

    codes:       per forced scale (N, C, side, side) float32, side in cells
    canvas:      what the tiles are part of
    fingerprint: of the weights that made it
    """

    codes: tuple[Tensor, ...]
    canvas: Canvas
    fingerprint: str


@dataclass(frozen=True)
class Sampled:
    """All scales, summed up; enough to decode.

    latent: (N, C, S, S) float32
    """

    latent: Tensor
    canvas: Canvas
    fingerprint: str


@dataclass(frozen=True)
class TextFeatures:
    """A prompt as flan-t5-xl's encoder gives it.

    features: (n, text width) float32, of the prompt's own tokens and the one that ends it
    prompt:   for people; empty if it is not known
    """

    features: Tensor
    prompt: str = ""
