"""K2N on whole pictures: the first token maps of every tile, on which neighbours are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...images.output_size import OutputSize, as_output_size
from ...runtime.execution import Execution
from ...runtime.precision import without_tf32
from ...runtime.progress import Stage
from ...runtime.transfer import brought
from ...runtime.work import Task
from ...tiling.canvas import Canvas
from ...tiling.consistency import Tiling
from ...tiling.grid import TileIndex
from ...tiling.stages import run_tiles
from ...tiling.tile_work import KeepsLatents
from ..model import VARSR
from ..results import TokenPyramid
from .coarse import Coarse
from .config import REDUCTION
from .work import coarse_task


@torch.inference_mode()
@without_tf32
def predict_tokens(
    model: VARSR,
    coarse: Coarse,
    image: Tensor,
    size: float | OutputSize,
    execution: Execution,
    tiling: Tiling | None = None,
) -> TokenPyramid:
    """The first scales of a picture's token maps, for `sample_tokens` to go on from.

    image: (B, C, H, W) in [0, 1]; size: of the output, see OutputSize
    Raises InputError where the model is not the one that K2N was made for.
    """
    coarse.check(model)
    config = model.config
    sides = config.tile_size, config.tokenizer.downsampling
    canvas = Canvas.of(image, as_output_size(size), *sides, tiling or Tiling())
    work = CoarseWork(model, coarse, canvas, canvas.enlarge(image, REDUCTION), execution.device)
    latents = run_tiles(work, canvas, execution)
    found = TokenPyramid(tuple(work.token_ids), tuple(latents), canvas, model.fingerprint)
    return found.to(image.device)


@dataclass
class CoarseState(KeepsLatents):
    """Tiles whose maps are known, between two of them.

    ids:     (N, side * side) of each scale
    latents: (N, C, S, S) after each step, behind the empty one that starts
    """

    ids: list[Tensor]
    latents: list[Tensor]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.ids, *self.latents))

    def select(self, tiles: slice) -> CoarseState:
        ids, latents = ([one[tiles].clone() for one in kept] for kept in (self.ids, self.latents))
        return CoarseState(ids, latents)

    def to(self, device: torch.device) -> CoarseState:
        ids, latents = ([brought(one, device) for one in kept] for kept in (self.ids, self.latents))
        return CoarseState(ids, latents)

    def rewind(self, k: int) -> None:
        del self.latents[k + 1 :]


class CoarseWork:
    """K2N on tiles, then its maps one after the other, as a run of so many steps.

    token_ids: per scale (tiles, side * side), once tiles finished
    """

    settled, wider = 0, None

    def __init__(
        self, model: VARSR, coarse: Coarse, canvas: Canvas, lq: Tensor, device: torch.device
    ) -> None:
        """lq: (B, 3, h, w), the pictures at the size that K2N sees"""
        self.model, self.coarse, self.lq, self.device = model, coarse, lq, device
        self.steps, self.starting = coarse.scales, coarse_task(coarse)
        self.tiles = TileIndex([canvas.grid.reduced(REDUCTION)] * canvas.images)
        sides = coarse.network.config.sides[: self.steps]
        self.token_ids = [torch.zeros(canvas.tiles, side**2, dtype=torch.long) for side in sides]

    def task(self, k: int) -> Task:
        return Task(Stage("scale", k + 1, self.model.config.schedule.num_scales))

    def start(self, numbers: Sequence[int]) -> CoarseState:
        lq = brought(self.tiles.crop(self.lq, numbers), self.device)
        config, ids = self.model.config, self.coarse.token_ids(self.model, lq)
        side, channels = config.schedule.final_side, config.tokenizer.latent_channels
        return CoarseState(ids, [torch.zeros(len(lq), channels, side, side, device=lq.device)])

    def step(self, state: CoarseState, numbers: Sequence[int], k: int) -> None:
        residual = self.model.quantizer.residual(state.ids[k], k)
        state.latents.append(state.latent + residual)

    def finish(self, state: CoarseState, numbers: Sequence[int]) -> None:
        for kept, ids in zip(self.token_ids, state.ids, strict=True):
            kept[list(numbers)] = ids.cpu()
