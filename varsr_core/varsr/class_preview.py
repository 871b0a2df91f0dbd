"""Previews of pictures that are made of a class: there is no input that shows what is to come.

What latents show is a linear map, as in tiling/sketch.py; but fitted once, before the run, to what
the decoder makes of codes that were drawn at random. They have all colours, and the cost is that of
decoding a quarter of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nn.work import coarse_parts, fine_parts
from ..runtime.progress import DECODING
from ..runtime.work import Task
from ..tiling.noise import derive_seed, draw_uniform
from ..tiling.preview import MAX_SIDE, preview_size
from ..tiling.sketch import SketchFn, fit_sketch
from .model import VARSR

DENSITY = 4  # pixels of a sketch along a cell
CELLS = 16  # along a side, of the random picture


def sketch_task(model: VARSR) -> Task:
    """What class_sketch() does."""
    decoder, cells = model.decoder, _cells(model)
    side = cells * decoder.cells_per_feature
    parts = [*coarse_parts(decoder, cells, cells), *fine_parts(decoder, side, side)]
    return Task(DECODING, parts)


def _cells(model: VARSR) -> int:
    return min(CELLS, model.config.schedule.final_side)


def class_sketch(model: VARSR, device: torch.device) -> SketchFn:
    """Latents on the CPU to what they show; see SketchFn."""
    config, cells = model.config, _cells(model)
    latent = torch.zeros((), device=device)
    for scale, side in enumerate(config.schedule.sides):
        drawn = draw_uniform((side * side,), [derive_seed(0, "sketch", scale)])
        ids = (drawn * config.tokenizer.codebook_size).long()
        latent = latent + model.quantizer.residual(ids.to(device), scale)
    latent = latent[..., :cells, :cells].contiguous()
    picture = model.decode(latent)
    density = min(DENSITY, config.tokenizer.downsampling)
    shown = F.interpolate(picture, (density * cells, density * cells), mode="area")
    return fit_sketch(latent.cpu(), shown.cpu())


class ClassPreview:
    """A TilePreview of pictures that are one tile each."""

    def __init__(self, sketch: SketchFn, pictures: int, tile_size: int) -> None:
        self.sketch, self.pictures = sketch, pictures
        self.size = preview_size(tile_size, tile_size)
        self.latents: dict[int, Tensor] = {}

    def note(self, numbers: Sequence[int], latents: Mapping[int, Tensor] | Tensor) -> None:
        for number in numbers:
            self.latents[number] = latents[number]

    def drawn(self, number: int) -> Tensor:
        if number not in self.latents:
            return torch.full((3, *self.size), 0.5)
        pixels = self.sketch(self.latents[number][None].cpu())
        mode = "bilinear" if pixels.shape[-1] < MAX_SIDE else "area"
        return F.interpolate(pixels, self.size, mode=mode)[0]

    def last(self) -> Tensor:
        return self.drawn(self.pictures - 1)
