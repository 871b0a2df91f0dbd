"""Two kinds of VARSR model: those that restore a picture, and the one that makes it of a class."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..nn.guidance import CLASS_TO_IMAGE, GuidanceRule, guidance_ratios
from ..tiling.noise import TileSeed, tile_seeds
from .model import VARSR

SEEDS = 2**64


def makes_classes(model: VARSR) -> bool:
    return model.config.transformer.class_to_image


def num_labels(model: VARSR) -> int:
    """Of a class-to-image model: the last of its classes is none."""
    return model.config.transformer.num_classes - 1


def check_restores(model: VARSR) -> None:
    """Refuses the class-to-image model where a picture is to be restored. Raises InputError."""
    if makes_classes(model):
        raise InputError(
            "model is VARSR_C2I: it makes pictures of a class and has no encoder for a picture. "
            "Connect it to the VARSR Class to Image node; to restore a picture, choose VARSR.pth "
            "or varsr_nano in Load VARSR Model"
        )


def check_makes_classes(model: VARSR) -> None:
    """Refuses a model that restores pictures where a class is asked for. Raises InputError."""
    if not makes_classes(model):
        raise InputError(
            "model restores pictures and knows no labels. Choose VARSR_C2I.pth in Load VARSR "
            "Model; to restore a picture with this model, use the VARSR Upscale node"
        )


def check_label(model: VARSR, label: int) -> None:
    """Raises InputError for a label that the model does not have."""
    count = num_labels(model)
    if not 0 <= label < count:
        raise InputError(
            f"label {label} is beyond this model, which has {count:,} labels: 0 to {count - 1}"
        )


def guidance_schedule(model: VARSR) -> GuidanceRule:
    """With which the public code samples such a model."""
    return CLASS_TO_IMAGE if makes_classes(model) else "linear"


def refiner_guidance(model: VARSR, guidance: float) -> float:
    """How hard the refiner is pushed where the user asks for `guidance`: as the last scale is."""
    return (
        guidance * guidance_ratios(model.config.schedule.num_scales, guidance_schedule(model))[-1]
    )


def picture_seeds(seed: int, pictures: int) -> list[TileSeed]:
    """Of pictures of a class: number i of a run is the first one of a run with seed + i."""
    return [tile_seeds((seed + i) % SEEDS, 1, [(0, 0)])[0] for i in range(pictures)]


def seeds_of(
    model: VARSR, seed: int, images: int, positions: Sequence[tuple[int, int]]
) -> list[TileSeed]:
    """Of all tiles, for the refiner alone: as they were when the tokens were sampled."""
    if makes_classes(model) and len(positions) == 1:
        return picture_seeds(seed, images)
    return tile_seeds(seed, images, positions)
