"""The stages of NSARM on whole pictures: tiles in blocks, seeds per tile, checks before work.

Each stage takes what the one before it made. `restorer.py` runs the same functions for
`upscale()`, so that both ways give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..images.output_size import OutputSize, as_output_size
from ..runtime.execution import Execution, ReportFn, Session
from ..tiling.canvas import Canvas
from ..tiling.consistency import Tiling
from ..tiling.noise import tile_seeds
from ..tiling.preview import Preview
from ..tiling.scheduler import TileLoop
from ..tiling.stages import check_made_by, decode_latents, each_tile
from .restorer import NSARMRestorer
from .results import Prefix, Sampled
from .sampling import SampleState

LOADER = "Load NSARM Model"


@torch.inference_mode()
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
    session = Session(execution, canvas.tiles)
    parts: list[list[Tensor]] = []

    def work(tiles: Tensor, report: ReportFn) -> None:
        parts.append([codes.to(image.device) for codes in restorer.forced_codes(tiles)])
        report("map network")

    pictures = canvas.enlarge(image, restorer.reduction)
    each_tile(canvas.tiles, canvas.grid.reduced(restorer.reduction), pictures, session, work)
    codes = tuple(torch.cat(scale) for scale in zip(*parts, strict=True))
    return Prefix(codes, canvas, restorer.model.fingerprint)


@torch.inference_mode()
def sample(restorer: NSARMRestorer, prefix: Prefix, seed: int, execution: Execution) -> Sampled:
    """Predicts the bits of all other scales; tiles agree as the prefix' canvas asks."""
    model, canvas = restorer.model, prefix.canvas
    check_made_by(prefix.fingerprint, "prefix", model.fingerprint, LOADER)
    session = Session(execution, canvas.tiles * restorer.steps, canvas.tiles)
    work = SamplingWork(restorer, prefix, seed, session.device)
    preview = None
    if execution.pictures:
        preview = Preview([canvas] * canvas.images, restorer.preview)
    grids = [canvas.grid.cells()] * canvas.images
    loop = TileLoop(work, grids, canvas.mode, session, preview=preview)
    latent = loop.run()[-1].to(prefix.codes[0].device)
    return Sampled(latent, canvas, model.fingerprint)


@torch.inference_mode()
def decode(restorer: NSARMRestorer, sampled: Sampled, execution: Execution) -> Tensor:
    """The picture: (B, 3, or 4 with alpha, H, W) in [0, 1]."""
    check_made_by(sampled.fingerprint, "bits", restorer.model.fingerprint, LOADER)
    return decode_latents(restorer.decoder, [sampled.latent], sampled.canvas, execution)


class SamplingWork:
    """A restorer on tiles whose first scales are known, for the loop."""

    settled = 0

    def __init__(
        self, restorer: NSARMRestorer, prefix: Prefix, seed: int, device: torch.device
    ) -> None:
        self.restorer, self.prefix, self.device = restorer, prefix, device
        self.steps = restorer.steps
        cells = prefix.canvas.grid.cells()
        self.seeds = tile_seeds(seed, prefix.canvas.images, cells.positions)

    def describe(self, k: int) -> str:
        return self.restorer.describe(k)

    def start(self, numbers: Sequence[int]) -> SampleState:
        codes = [scale[list(numbers)].to(self.device) for scale in self.prefix.codes]
        return self.restorer.start_from(codes, [self.seeds[number] for number in numbers])

    def step(self, state: SampleState, numbers: Sequence[int], k: int) -> None:
        self.restorer.step(state, k)

    def finish(self, state: SampleState, numbers: Sequence[int]) -> None:
        """Nothing but the latents is wanted."""
