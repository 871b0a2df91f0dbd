"""The stages of NSARM on whole pictures: tiles in blocks, seeds per tile, checks before work.

Each stage takes what the one before it made. `restorer.py` runs the same functions for
`upscale()`, so that both ways give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..images.output_size import OutputSize, as_output_size
from ..runtime.execution import Execution
from ..runtime.precision import without_tf32
from ..runtime.transfer import brought
from ..runtime.work import Task
from ..tiling.canvas import Canvas
from ..tiling.consistency import Tiling
from ..tiling.noise import tile_seeds
from ..tiling.overflow import again, unsound
from ..tiling.stages import check_made_by, decode_latents, each_tile, run_tiles
from ..tiling.tile_work import changed
from .restorer import NSARMRestorer
from .results import Prefix, Sampled
from .sampling import SampleState

LOADER = "Load NSARM Model"


@torch.inference_mode()
@without_tf32
def encode_prefix(
    restorer: NSARMRestorer,
    image: Tensor,
    size: float | OutputSize,
    execution: Execution,
    tiling: Tiling | None = None,
) -> Prefix:
    """image: (B, C, H, W) in [0, 1]; size: of the output, see OutputSize."""
    canvas = Canvas.of(
        image, as_output_size(size), restorer.tile_size, restorer.align, tiling or Tiling()
    )
    parts: list[list[Tensor]] = []
    wider = restorer.wider

    def work(tiles: Tensor) -> None:
        codes = [scale.to(image.device) for scale in restorer.forced_codes(tiles)]
        if wider is not None:
            for tile in unsound(codes):
                with again():
                    made = wider.forced_codes(tiles[tile : tile + 1])
                for scale, codes_of_tile in zip(codes, made, strict=True):
                    scale[tile] = codes_of_tile[0]
        parts.append(codes)

    reduction = restorer.reduction
    pictures = canvas.enlarge(image, reduction)
    each_tile(canvas, pictures, execution, restorer.starting, work, reduction)
    codes = tuple(torch.cat(scale) for scale in zip(*parts, strict=True))
    return Prefix(codes, canvas, restorer.model.fingerprint)


@torch.inference_mode()
@without_tf32
def sample(restorer: NSARMRestorer, prefix: Prefix, seed: int, execution: Execution) -> Sampled:
    """Predicts the bits of all other scales; tiles agree as the prefix' canvas asks."""
    model, canvas = restorer.model, prefix.canvas
    check_made_by(prefix.fingerprint, "prefix", model.fingerprint, LOADER)
    work = SamplingWork(restorer, prefix, seed, execution.device)
    latent = run_tiles(work, canvas, execution)[-1].to(prefix.codes[0].device)
    return Sampled(latent, canvas, model.fingerprint)


@torch.inference_mode()
@without_tf32
def decode(restorer: NSARMRestorer, sampled: Sampled, execution: Execution) -> Tensor:
    """The picture: (B, 3, or 4 with alpha, H, W) in [0, 1]."""
    check_made_by(sampled.fingerprint, "bits", restorer.model.fingerprint, LOADER)
    return decode_latents(restorer.decoder, [sampled.latent], sampled.canvas, execution)


class SamplingWork:
    """A restorer on tiles whose first scales are known, for the loop."""

    settled = 0
    starting = None

    def __init__(
        self, restorer: NSARMRestorer, prefix: Prefix, seed: int, device: torch.device
    ) -> None:
        self.restorer, self.prefix, self.device = restorer, prefix, device
        self.steps = restorer.steps
        self.tasks = [restorer.task(k) for k in range(self.steps)]
        cells = prefix.canvas.grid.cells()
        self.seeds = tile_seeds(seed, prefix.canvas.images, cells.positions)

    @property
    def wider(self) -> SamplingWork | None:
        wider = self.restorer.wider
        if wider is None:
            return None
        return changed(self, restorer=wider, tasks=[wider.task(k) for k in range(self.steps)])

    def task(self, k: int) -> Task:
        return self.tasks[k]

    def start(self, numbers: Sequence[int]) -> SampleState:
        codes = [brought(scale[list(numbers)], self.device) for scale in self.prefix.codes]
        return self.restorer.start_from(codes, [self.seeds[number] for number in numbers])

    def step(self, state: SampleState, numbers: Sequence[int], k: int) -> None:
        self.restorer.step(state, k)

    def finish(self, state: SampleState, numbers: Sequence[int]) -> None:
        """Nothing but the latents is wanted."""
