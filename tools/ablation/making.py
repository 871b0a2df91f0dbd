"""Pictures of every variant. What only differs in colours is run through the model once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tools.ablation.variants import Variant
from tools.metrics.case import colors
from varsr_core.batch.options import Options
from varsr_core.images.color_fix import match_colors
from varsr_core.images.fidelity import keep
from varsr_core.runtime.defaults import resolved
from varsr_core.runtime.precision import without_tf32
from varsr_core.tiling.canvas import Canvas
from varsr_core.upscaling import upscale


@dataclass(frozen=True)
class Made:
    """seconds: that the model took; also of a picture whose run another variant has made"""

    picture: Image.Image
    seconds: float


def made(variants: Sequence[Variant], picture: Image.Image, options: Options) -> Iterator[Made]:
    """One after the other, as `upscale()` makes them of an RGB picture."""
    image = colors(picture)
    runs: list[tuple[tuple[Any, int], Tensor, float]] = []
    for variant in variants:
        known = [run for run in runs if run[0] == (variant.restorer, variant.seed)]
        if not known:
            known = [_run(variant, image, options)]
            runs += known
        _, rgb, seconds = known[0]
        yield Made(to_picture(finished(variant, image, rgb, options)), seconds)


def _run(
    variant: Variant, image: Tensor, options: Options
) -> tuple[tuple[Any, int], Tensor, float]:
    settings = replace(variant.settings, color_fix="none", fidelity=0.0)
    start = time.perf_counter()
    rgb = upscale(image, options.size, variant.restorer, seed=variant.seed, settings=settings)
    return (variant.restorer, variant.seed), rgb, time.perf_counter() - start


@torch.inference_mode()
@without_tf32
def finished(variant: Variant, image: Tensor, rgb: Tensor, options: Options) -> Tensor:
    """What `upscale()` does behind the model: (1, 3, H', W') in [0, 1]."""
    restorer = variant.restorer
    settings = resolved(variant.settings, restorer.defaults)
    canvas = Canvas.of(image, options.size, restorer.tile_size, restorer.align, settings.tiling)
    enlarged = canvas.crop(canvas.enlarge(image))
    mode, strength = settings.color_fix, settings.color_strength
    return keep(
        match_colors(rgb, enlarged, mode, strength, None, canvas.grey), enlarged, settings.fidelity
    )


def to_picture(rgb: Tensor) -> Image.Image:
    values = (rgb[0].movedim(0, -1).clamp(0, 1) * 255).round().cpu().numpy()
    return Image.fromarray(values.astype(np.uint8))
