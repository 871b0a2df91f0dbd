"""A picture in, a restored and larger picture out, with any family of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from .agreement import Tiling
from .canvas import Canvas, check_pixels, resize
from .color_fix import ColorMode, check_mode, match_colors
from .errors import InputError
from .execution import Execution, Session
from .mask import blend_inside, check_mask, feathered
from .noise import TileSeed, tile_seeds
from .output_size import OutputSize, as_output_size
from .sketch import Sketch
from .tile_loop import TileLoop, TileState
from .tiled_decode import Decoding, TileDecoder
from .tiling import TileGrid

State = TypeVar("State", bound=TileState)


class Restorer(Protocol[State]):
    """A model family as `upscale()` sees it."""

    @property
    def tile_size(self) -> int:
        """Side of the tiles it restores, in pixels."""

    @property
    def reduction(self) -> int:
        """Pixels of the output, along a side, for one pixel of the picture it is given."""

    @property
    def align(self) -> int:
        """Pixels per cell of the latent: tiles start at multiples of it; a multiple of reduction"""

    @property
    def steps(self) -> int:
        """How many steps one tile takes: each scale, and the refiner where there is one."""

    def describe(self, k: int) -> str:
        """What step k does, in the user's words."""

    def start(self, lq: Tensor, seeds: Sequence[TileSeed]) -> State:
        """lq: (N, 3, side, side) in [0, 1], side tile_size / reduction; one seed per tile."""

    def step(self, state: State, k: int) -> None:
        """One scale, or the refiner."""

    def sketch(self, latent: Tensor) -> Tensor:
        """What a latent shows, cheaply; see SketchFn."""

    @property
    def decoder(self) -> TileDecoder:
        """From latents to pixels."""


@dataclass(frozen=True)
class UpscaleSettings:
    """The user's choices that no model family knows of.

    tiling:         how pictures larger than a tile are worked on
    color_fix:      how colours are matched to the input, over the whole picture
    color_strength: 0 leaves the model's colours, 1 takes the input's fully
    feather:        pixels of the output over which a mask fades in, inwards from its edge
    """

    tiling: Tiling = field(default_factory=Tiling)
    color_fix: ColorMode = "adain"
    color_strength: float = 1.0
    feather: int = 16

    def __post_init__(self) -> None:
        check_mode(self.color_fix)
        if not 0 <= self.color_strength <= 1:
            raise InputError(f"color_strength is {self.color_strength}; 0 to 1 is expected")
        if self.feather < 0:
            raise InputError(f"feather is {self.feather}; 0 pixels or more are expected")


@torch.inference_mode()
def upscale(
    image: Tensor,
    size: float | OutputSize,
    restorer: Restorer,
    *,
    seed: int = 0,
    settings: UpscaleSettings | None = None,
    mask: Tensor | None = None,
    execution: Execution | None = None,
) -> Tensor:
    """Restores and enlarges pictures.

    Pictures are worked on a few at a time, so that memory does not grow with their number.

    image:   (B, C, H, W) in [0, 1]; C 1 is repeated to RGB, the alpha of 4 is enlarged apart
    size:    of the output: its sides divided by the input's, or what OutputSize can say
    seed:    the same seed gives the same picture, whatever the batch; 0 to 2**64 - 1
    mask:    (B or 1, 1, h, w) in [0, 1], of any size: what to restore; the rest is only enlarged
    returns  (B, 3 or 4, H', W') float32 in [0, 1], on the device of `image`
    Raises InputError before any work for what cannot be restored.
    """
    settings, execution = settings or UpscaleSettings(), execution or Execution()
    run = _Run(image, as_output_size(size), restorer, seed, settings, mask, execution)
    return run.all()


class _Run:
    """One call of `upscale()`."""

    def __init__(
        self,
        image: Tensor,
        size: OutputSize,
        restorer: Restorer,
        seed: int,
        settings: UpscaleSettings,
        mask: Tensor | None,
        execution: Execution,
    ) -> None:
        self.canvas = Canvas.of(image, size, restorer.tile_size, restorer.align, settings.tiling)
        self.image, self.restorer, self.seed, self.settings = image, restorer, seed, settings
        self.mask = mask
        if mask is not None:
            check_mask(mask, len(image))
        # Tiles a mask leaves out break the canvas up, whatever the mode.
        agreed = self.canvas.agreed and mask is None
        self.decoding = Decoding(restorer.decoder, self.canvas.grid, agreed)
        pieces = len(self.canvas.grid) * restorer.steps + self.decoding.pieces
        tiles = len(image) * len(self.canvas.grid)
        self.session = Session(execution, len(image) * pieces, tiles)

    def all(self) -> Tensor:
        image, canvas = self.image, self.canvas
        channels = 4 if image.shape[1] == 4 else 3
        # Written to at once, so that a picture that does not fit fails before any work.
        output = torch.zeros(image.shape[0], channels, canvas.height, canvas.width)
        output = output.to(image.device).fill_(0)
        at_once = max(1, self.session.size // len(canvas.grid))
        for start in range(0, image.shape[0], at_once):
            part = slice(start, min(start + at_once, image.shape[0]))
            output[part] = self._some(part)
        return output

    def _some(self, part: slice) -> Tensor:
        """A few pictures, together."""
        image = self.image[part]
        enlarged = self.canvas.enlarge(image)
        mask = self._mask(part)
        wanted = self.canvas.touched(mask, len(image))
        skipped = len(image) * len(self.canvas.grid) - len(wanted)
        if skipped:
            self.session.report(skipped * (self.restorer.steps + 1), "tiles outside the mask")
        reduction = self.restorer.reduction
        lq = self.canvas.enlarge(image, reduction) if reduction > 1 else enlarged
        work = RestoringWork(self.restorer, self.canvas.grid, lq, self.seed, self.session.device)
        sketch = None
        if self.session.execution.pictures:
            sketch = Sketch(self.canvas, self.restorer.sketch, enlarged)
        latents = TileLoop(
            work,
            self.canvas.grid.cells(),
            len(image),
            self.settings.tiling.mode,
            self.session,
            wanted,
            sketch,
        ).run()
        rgb = torch.zeros_like(enlarged)
        if wanted:
            self.decoding.run(latents[-1], wanted, self.session, rgb)
        for number in sorted(set(range(len(image) * len(self.canvas.grid))) - set(wanted)):
            self.canvas.grid.add(rgb, [number], self.canvas.grid.crop(enlarged, [number]))
        rgb = self.canvas.crop(rgb)
        reference = self.canvas.crop(enlarged)
        rgb = match_colors(rgb, reference, self.settings.color_fix, self.settings.color_strength)
        if mask is not None:
            rgb = blend_inside(rgb, reference, mask)
        return self.canvas.with_alpha(rgb, part)

    def _mask(self, part: slice) -> Tensor | None:
        if self.mask is None:
            return None
        mask = self.mask[part] if len(self.mask) > 1 else self.mask
        return feathered(mask, self.canvas.height, self.canvas.width, self.settings.feather)


class RestoringWork:
    """A Restorer on the tiles of a few pictures, for the loop."""

    settled = 0

    def __init__(
        self, restorer: Restorer, grid: TileGrid, lq: Tensor, seed: int, device: torch.device
    ) -> None:
        """lq: (B, 3, h, w) in [0, 1], the grid's sides divided by the restorer's reduction."""
        self.restorer, self.lq, self.device = restorer, lq, device
        self.grid = grid.reduced(restorer.reduction)
        self.steps = restorer.steps
        self.seeds = tile_seeds(seed, len(lq), grid.cells().positions)

    def describe(self, k: int) -> str:
        return self.restorer.describe(k)

    def start(self, numbers: Sequence[int]) -> TileState:
        lq = self.grid.crop(self.lq, numbers).to(self.device)
        return self.restorer.start(lq, [self.seeds[number] for number in numbers])

    def step(self, state: TileState, numbers: Sequence[int], k: int) -> None:
        self.restorer.step(state, k)

    def finish(self, state: TileState, numbers: Sequence[int]) -> None:
        """Nothing but the latents is wanted."""


def match_image_colors(
    image: Tensor, reference: Tensor, mode: ColorMode, strength: float = 1.0
) -> Tensor:
    """`match_colors` for pictures with alpha or grey, and a reference of another size.

    image, reference: (B, C, H, W); alpha of `image` passes through, that of `reference` is ignored
    Raises InputError for what is no picture.
    """
    check_pixels(image, "image")
    check_pixels(reference, "reference")
    rgb, alpha = image[:, :3].expand(-1, 3, -1, -1), image[:, 3:]
    reference = resize(reference, *image.shape[2:])[:, :3].expand(-1, 3, -1, -1)
    return torch.cat((match_colors(rgb, reference, mode, strength), alpha), dim=1)
