"""A picture in, a restored and larger picture out, with any family of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

import torch
from torch import Tensor

from .errors import InputError
from .images.alpha import enlarge_alpha, with_alpha
from .images.check import check_pixels
from .images.color_fix import ColorMode, check_mode, match_colors
from .images.mask import blend_inside, check_mask, feathered
from .images.output_size import OutputSize, as_output_size
from .images.resize import resize
from .images.seen import alpha_of, is_grey, seen_colors
from .runtime.device import execution_on
from .runtime.execution import Execution, Session
from .tiling.batching import PictureBatch
from .tiling.canvas import Canvas
from .tiling.consistency import Tiling
from .tiling.decode import Decoding
from .tiling.grid import Canvases, TileIndex
from .tiling.preview import Preview
from .tiling.restorer import Restorer, RestoringWork
from .tiling.scheduler import TileLoop


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
    out: Tensor | None = None,
) -> Tensor:
    """Restores and enlarges pictures.

    Pictures are worked on a few at a time, so that memory does not grow with their number.

    image:   (B, C, H, W) in [0, 1]; C 1 is repeated to RGB, the alpha of 4 is enlarged apart, and
             colours that it hides give way to visible ones; what is grey comes back grey
    size:    of the output: its sides divided by the input's, or what OutputSize can say
    seed:    the same seed gives the same picture, whatever the batch; 0 to 2**64 - 1
    mask:    (B or 1, 1, h, w) in [0, 1], of any size: what to restore; the rest is only enlarged
    out:     of the returned shape, of any dtype and layout, on any device: is written to picture by
             picture, so that a clip that is wanted in other memory is not held twice
    returns  (B, 3 or 4, H', W') float32 in [0, 1], on the device of `image`; or `out`
    Raises InputError before any work for what cannot be restored.
    """
    settings, execution = settings or UpscaleSettings(), execution or _execution(restorer)
    canvas = _canvas(image, as_output_size(size), restorer, settings)
    if mask is not None:
        check_mask(mask, len(image))
        mask = mask.expand(len(image), -1, -1, -1)
    run = _Run([canvas] * len(image), image, mask, restorer, seed, settings, execution)
    out = canvas.output(image, out)
    run.into(out)
    return out


@torch.inference_mode()
def upscale_each(
    images: Sequence[Tensor],
    size: float | OutputSize,
    restorer: Restorer,
    *,
    seed: int = 0,
    settings: UpscaleSettings | None = None,
    masks: Sequence[Tensor] | None = None,
    execution: Execution | None = None,
) -> list[Tensor]:
    """`upscale()` for pictures of different sizes, whose tiles run together all the same.

    images:  (C, H, W) each, in [0, 1]; all are kept in memory, with their outputs
    masks:   (1, h, w) in [0, 1] for each picture, or None for all of them
    returns  (3 or 4, H', W') each, as `upscale()` makes it
    Raises InputError before any work for what cannot be restored.
    """
    settings, execution = settings or UpscaleSettings(), execution or _execution(restorer)
    size = as_output_size(size)
    canvases = [_canvas(image[None], size, restorer, settings) for image in images]
    if masks is not None and len(masks) != len(images):
        raise InputError(
            f"{len(masks)} masks are given for {len(images)} pictures; one for each is expected"
        )
    for mask in masks or ():
        check_mask(mask[None], 1)
    run = _Run(canvases, images, masks, restorer, seed, settings, execution)
    out = [canvas.output(image[None])[0] for canvas, image in zip(canvases, images, strict=True)]
    run.into(out)
    return out


def _execution(restorer: Restorer) -> Execution:
    """Where the model is, with as many tiles at once as fit there."""
    return execution_on(restorer.device, restorer.tile_bytes)


def _canvas(
    image: Tensor, size: OutputSize, restorer: Restorer, settings: UpscaleSettings
) -> Canvas:
    return Canvas.of(image, size, restorer.tile_size, restorer.align, settings.tiling)


@dataclass
class _Picture:
    """One picture on its way.

    canvas:   of this one alone
    enlarged: (1, 3, grid height, grid width), plainly resized
    lq:       (1, 3, ..., ...), what the model is given of it
    mask:     (1, 1, height, width) at the output size, or None
    """

    canvas: Canvas
    enlarged: Tensor
    lq: Tensor
    mask: Tensor | None


class _Run:
    """What `upscale()` and `upscale_each()` do, once their inputs are checked.

    canvases: one for each of `images`
    images:   (C, H, W) each; masks: (1, h, w) each
    """

    def __init__(
        self,
        canvases: Sequence[Canvas],
        images: Canvases,
        masks: Canvases | None,
        restorer: Restorer,
        seed: int,
        settings: UpscaleSettings,
        execution: Execution,
    ) -> None:
        self.canvases, self.images, self.masks = canvases, images, masks
        self.restorer, self.seed, self.settings = restorer, seed, settings
        # Tiles that a mask leaves out break the canvas up, whatever the mode.
        self.blended = settings.tiling.mode != "independent" and masks is None
        grids = [canvas.grid for canvas in canvases]
        tiles = sum(map(len, grids))
        units = Decoding(restorer.decoder, grids, self.blended).units
        self.session = Session(execution, tiles * restorer.steps + units, tiles)

    def into(self, out: Canvases) -> None:
        """out: (3 or 4, height, width) of each picture, are written to."""
        start = 0
        while start < len(self.canvases):
            batch = PictureBatch(self.session.size)
            taken = takewhile(batch.take, islice(self.canvases, start, None))
            numbers = range(start, start + len(list(taken)))
            pictures = [self._begin(number) for number in numbers]
            rgb = self._restore(pictures)
            for number in reversed(numbers):
                out[number].copy_(self._finish(pictures.pop(), rgb.pop())[0])
            start = numbers.stop

    def _begin(self, number: int) -> _Picture:
        image = self.images[number][None]
        canvas, reduction = self.canvases[number].of_one(image), self.restorer.reduction
        mask = None
        if self.masks is not None:
            given, feather = self.masks[number][None], self.settings.feather
            mask = feathered(given, canvas.height, canvas.width, feather)
        enlarged = canvas.enlarge(image)
        lq = canvas.enlarge(image, reduction) if reduction > 1 else enlarged
        return _Picture(canvas, enlarged, lq, mask)

    def _restore(self, pictures: list[_Picture]) -> list[Tensor]:
        """A few pictures, together, as the model makes them: (3, grid height, grid width) each."""
        tiles = TileIndex([picture.canvas.grid for picture in pictures])
        wanted = [
            tiles.of(number)[index]
            for number, picture in enumerate(pictures)
            for index in picture.canvas.touched(picture.mask, 1)
        ]
        skipped = sorted(set(range(len(tiles))) - set(wanted))
        if skipped:
            units = len(skipped) * (self.restorer.steps + 1)
            self.session.report(units, "tiles outside the mask")
        rgb = [torch.zeros_like(picture.enlarged[0]) for picture in pictures]
        if wanted:
            latent = self._latent(pictures, tiles, wanted)
            decoding = Decoding(self.restorer.decoder, tiles.grids, self.blended)
            decoding.run(latent, wanted, self.session, rgb)
        enlarged = [picture.enlarged[0] for picture in pictures]
        for number in skipped:
            tiles.add(rgb, [number], tiles.crop(enlarged, [number]))
        return rgb

    def _latent(self, pictures: list[_Picture], tiles: TileIndex, wanted: list[int]) -> Tensor:
        """Of all tiles after their last step, (tiles, C, S, S)."""
        session, lq = self.session, [picture.lq[0] for picture in pictures]
        work = RestoringWork(self.restorer, tiles.grids, lq, self.seed, session.device)
        preview = None
        if session.execution.pictures:
            canvases = [picture.canvas for picture in pictures]
            enlarged = [picture.enlarged[0] for picture in pictures]
            preview = Preview(canvases, self.restorer.preview, enlarged)
        cells = [grid.cells() for grid in tiles.grids]
        loop = TileLoop(work, cells, self.settings.tiling.mode, session, wanted, preview)
        return loop.run()[-1]

    def _finish(self, picture: _Picture, rgb: Tensor) -> Tensor:
        """(1, 3 or 4, height, width): what was restored, in the colours and the mask asked for."""
        canvas, settings = picture.canvas, self.settings
        rgb, enlarged = canvas.colored(canvas.crop(rgb[None])), canvas.crop(picture.enlarged)
        alpha, mode = canvas.enlarged_alpha(), settings.color_fix
        rgb = match_colors(rgb, enlarged, mode, settings.color_strength, alpha, canvas.grey)
        if picture.mask is not None:
            rgb = blend_inside(rgb, enlarged, picture.mask)
        return with_alpha(rgb, alpha)


def match_image_colors(
    image: Tensor, reference: Tensor, mode: ColorMode, strength: float = 1.0
) -> Tensor:
    """`match_colors` for pictures with alpha or grey, and a reference of another size.

    image, reference: (B, C, H, W); alpha of `image` passes through, and weighs the pixels of both;
                      that of `reference` does where `image` has none. A grey reference leaves no
                      colour
    Raises InputError for what is no picture.
    """
    check_pixels(image, "image")
    check_pixels(reference, "reference")
    size, alpha = image.shape[2:], alpha_of(image)
    weight = alpha_of(reference) if alpha is None else alpha
    if alpha is None and weight is not None:
        weight = enlarge_alpha(weight, *size)
    rgb, grey = image[:, :3].expand(-1, 3, -1, -1), [is_grey(one) for one in reference.split(1)]
    reference = resize(seen_colors(reference), *size).expand(-1, 3, -1, -1)
    return with_alpha(match_colors(rgb, reference, mode, strength, weight, grey), alpha)
