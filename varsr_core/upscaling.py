"""A picture in, a restored and larger picture out, with any family of models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

import torch
from torch import Tensor

from .errors import InputError
from .images.alpha import with_alpha
from .images.color_fix import match_colors
from .images.fidelity import keep
from .images.mask import blend_inside, check_mask, feathered
from .images.output_size import MEGAPIXEL, OutputSize, as_output_size
from .images.resize import resize
from .images.seen import seen_colors
from .runtime.defaults import resolved
from .runtime.device import execution_on
from .runtime.execution import Execution, Plan, Session
from .runtime.precision import without_tf32
from .runtime.progress import FINISHING
from .runtime.work import Task, on_pixels
from .settings import UpscaleSettings
from .tiling.batching import PictureBatch
from .tiling.canvas import Canvas
from .tiling.decode import Decoding
from .tiling.grid import Canvases, TileIndex
from .tiling.plan import plan_of
from .tiling.preview import Preview, reduced
from .tiling.restorer import Restorer, RestoringWork, second_reduction
from .tiling.scheduler import TileLoop
from .tiling.steady import Clip
from .tiling.touched import touched_tiles


@torch.inference_mode()
@without_tf32
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
    clip: Clip | None = None,
) -> Tensor:
    """Restores and enlarges pictures.

    Pictures are worked on a few at a time, so that memory does not grow with their number.

    image:   (B, C, H, W) in [0, 1]; C 1 is repeated to RGB, the alpha of 4 is enlarged apart, and
             colours that it hides give way to visible ones; what is grey comes back grey
    size:    of the output: its sides divided by the input's, or what OutputSize can say
    seed:    the same seed gives the same picture, whatever the batch; 0 to 2**64 - 1. Of tiles that
             run at once, as on a GPU, last bits depend on how many these are
    mask:    (B or 1, 1, h, w) in [0, 1], of any size: what to restore; the rest is only enlarged
    out:     of the returned shape, of any dtype and layout, on any device: is written to picture by
             picture, so that a clip that is wanted in other memory is not held twice
    clip:    of settings that ask for steady frames: what frames before these left, and goes on from
             there; without one, the pictures are a film of their own. Frames run one by one
    returns  (B, 3 or 4, H', W') float32 in [0, 1], on the device of `image`; or `out`
    Raises InputError before any work for what cannot be restored.
    """
    settings, execution = settings or UpscaleSettings(), execution or _execution(restorer)
    canvas = _canvas(image, as_output_size(size), restorer, settings)
    if mask is not None:
        check_mask(mask, len(image))
        mask = mask.expand(len(image), -1, -1, -1)
    if settings.steady and clip is None and len(image) > 1:
        clip = Clip()
    run = _Run([canvas] * len(image), image, mask, restorer, seed, settings, execution, clip)
    out = canvas.output(image, out)
    run.into(out)
    return out


@torch.inference_mode()
@without_tf32
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

    They are no film, whatever `steady` is.

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
    return execution_on(restorer.device, restorer.tile_bytes, restorer.weight_bytes)


def _canvas(
    image: Tensor, size: OutputSize, restorer: Restorer, settings: UpscaleSettings
) -> Canvas:
    return Canvas.of(image, size, restorer.tile_size, restorer.align, settings.tiling)


@dataclass
class _Picture:
    """One picture on its way.

    image:    (C, h, w), as it was given
    canvas:   of this one alone
    enlarged: (1, 3, grid height, grid width), plainly resized
    lq:       (1, 3, ..., ...), what the model is given of it
    small:    (1, 3, ..., ...), what it is given beside that; None for most
    mask:     (1, 1, height, width) at the output size, or None
    touched:  tiles that are restored
    """

    image: Tensor
    canvas: Canvas
    enlarged: Tensor
    lq: Tensor
    small: Tensor | None
    mask: Tensor | None
    touched: Sequence[int]


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
        clip: Clip | None = None,
    ) -> None:
        self.canvases, self.images, self.masks = canvases, images, masks
        self.restorer, self.seed = restorer, seed
        self.settings = settings = resolved(settings, restorer.defaults)
        self.clip = clip if settings.steady else None
        # Tiles that a mask leaves out break the canvas up, whatever the mode.
        self.blended = settings.tiling.mode != "independent" and masks is None
        self.touched = touched_tiles(canvases, masks)
        tiles = sum(map(len, self.touched))
        self.session = Session(execution, self._plan(tiles), tiles)

    def _plan(self, tiles: int) -> Plan:
        """All that is done; what is alike in many pictures is counted together."""
        grids = [canvas.grid for canvas in self.canvases]
        yield from plan_of(self.restorer, tiles)
        yield from Decoding(self.restorer.decoder, grids, self.blended).plan(tiles)
        sizes = Counter((canvas.height, canvas.width) for canvas in self.canvases)
        for size, count in sizes.items():
            yield _finishing(*size), count

    def into(self, out: Canvases) -> None:
        """out: (3 or 4, height, width) of each picture, are written to."""
        start = 0
        while start < len(self.canvases):
            batch = PictureBatch(self.session.size if self.clip is None else 1)
            taken = takewhile(batch.take, islice(self.canvases, start, None))
            numbers = range(start, start + len(list(taken)))
            pictures = [self._begin(number) for number in numbers]
            rgb = self._restore(pictures)
            # In order, so that the last one is shown last; each gives up its memory.
            pictures.reverse()
            rgb.reverse()
            for number in numbers:
                self._finish(pictures.pop(), rgb.pop(), out[number])
            start = numbers.stop

    def _begin(self, number: int) -> _Picture:
        image, touched = self.images[number][None], self.touched[number]
        canvas, reduction = self.canvases[number].of_one(image), self.restorer.reduction
        mask = None
        if self.masks is not None:
            given, feather = self.masks[number][None], self.settings.feather
            mask = feathered(given, canvas.height, canvas.width, feather)
        enlarged, given = canvas.enlarge(image), self._shrunk(image)
        alike = reduction == 1 and given is image
        lq = enlarged if alike else canvas.enlarge(given, reduction)
        second = second_reduction(self.restorer)
        small = canvas.enlarge(given, second) if second else None
        return _Picture(image[0], canvas, enlarged, lq, small, mask, touched)

    def _shrunk(self, image: Tensor) -> Tensor:
        """(1, C, H, W) as the model is given it."""
        wanted, (height, width) = self.settings.shrink_first * MEGAPIXEL, image.shape[2:]
        if not 0 < wanted < height * width:
            return image
        size = OutputSize("megapixels", self.settings.shrink_first).of(height, width)
        return resize(seen_colors(image), *size)

    def _restore(self, pictures: list[_Picture]) -> list[Tensor]:
        """A few pictures, together, as the model makes them: (3, grid height, grid width) each."""
        tiles = TileIndex([picture.canvas.grid for picture in pictures])
        wanted = [
            tiles.of(number)[index]
            for number, picture in enumerate(pictures)
            for index in picture.touched
        ]
        skipped = sorted(set(range(len(tiles))) - set(wanted))
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
        small = [picture.small[0] for picture in pictures if picture.small is not None]
        work = RestoringWork(self.restorer, tiles.grids, lq, self.seed, session.device, small)
        preview = None
        if session.execution.pictures:
            canvases = [picture.canvas for picture in pictures]
            images = [picture.image for picture in pictures]
            preview = Preview(canvases, images, [picture.mask for picture in pictures])
        cells = [grid.cells() for grid in tiles.grids]
        mode, clip, frame = self.settings.tiling.mode, self.clip, None
        if clip is not None:  # of which there is one frame at a time
            (picture,) = pictures
            given = self._shrunk(picture.image[None])
            frame = clip.begin(picture.canvas, given, self.settings.steady)
        latents = TileLoop(work, cells, mode, session, wanted, preview, frame).run()
        if clip is not None and frame is not None:
            clip.end(frame)
        return latents[-1]

    def _finish(self, picture: _Picture, rgb: Tensor, out: Tensor) -> None:
        """What was restored, in the colours and the mask asked for, into (3 or 4, height, width)"""
        made: list[Tensor] = []
        draw = (lambda: reduced(made[0])) if self.session.execution.pictures else None
        with self.session.doing(_finishing(picture.canvas.height, picture.canvas.width), draw=draw):
            made.append(self._finished(picture, rgb)[0])
            out.copy_(made[0])

    def _finished(self, picture: _Picture, rgb: Tensor) -> Tensor:
        """(1, 3 or 4, height, width)"""
        canvas, settings = picture.canvas, self.settings
        rgb, enlarged = canvas.colored(canvas.crop(rgb[None])), canvas.crop(picture.enlarged)
        alpha, mode = canvas.enlarged_alpha(), settings.color_fix
        rgb = match_colors(rgb, enlarged, mode, settings.color_strength, alpha, canvas.grey)
        rgb = keep(rgb, enlarged, settings.fidelity, alpha)
        if picture.mask is not None:
            rgb = blend_inside(rgb, enlarged, picture.mask)
        return with_alpha(rgb, alpha)


def _finishing(height: int, width: int) -> Task:
    """What is done to a picture of this size behind the model."""
    return Task(FINISHING, [on_pixels(height * width)])
