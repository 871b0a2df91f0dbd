"""Pictures of a class, out of nothing, by the class-to-image model (VARSR_C2I).

One tile is one picture. Scales, refiner and decoder are those of `restorer.py`; what is missing is
the low-quality picture, so that the class is all there is before the first scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..nn.guidance import CLASS_TO_IMAGE
from ..nn.parameters import weight_bytes
from ..runtime.device import execution_on
from ..runtime.execution import Execution, Session
from ..runtime.precision import without_tf32
from ..runtime.progress import FINISHING
from ..runtime.work import Task, on_pixels
from ..tiling.canvas import Canvas
from ..tiling.decode import Decoding
from ..tiling.grid import TileGrid
from ..tiling.noise import TileSeed
from ..tiling.plan import plan_of
from ..tiling.preview import reduced
from ..tiling.scheduler import TileLoop
from .class_preview import ClassPreview, class_sketch, sketch_task
from .decoding import VARSRDecoder
from .kinds import check_label, check_makes_classes, picture_seeds, refiner_guidance
from .memory import tile_bytes
from .model import VARSR
from .restorer import SamplingWork
from .results import TokenPyramid
from .resuming import check_kept, check_scales
from .sample_state import SampleState
from .sampling import RefineSettings, SampleSettings, refine_state
from .work import refining_task

# As published.
SAMPLING = SampleSettings(guidance=4.0, guidance_schedule=CLASS_TO_IMAGE, top_k=20, top_p=0.75)


@dataclass(frozen=True)
class Kept:
    """Scales that are not made anew: the first `scales` of `tokens`."""

    tokens: TokenPyramid | None = None
    scales: int = 0


@torch.inference_mode()
@without_tf32
def class_to_image(
    model: VARSR,
    label: int,
    *,
    pictures: int = 1,
    seed: int = 0,
    sampling: SampleSettings = SAMPLING,
    refining: RefineSettings | None = None,
    kept: Kept | None = None,
    stop_scale: int = 0,
    execution: Execution | None = None,
) -> tuple[Tensor, TokenPyramid]:
    """Makes pictures of a class.

    label:      0 up to the number of labels of the model, less one
    pictures:   how many; number i is the first one of a run with seed + i
    sampling:   its quality_class and guidance_schedule are set here
    refining:   its guidance is not used: the refiner is pushed as hard as the last scale
    kept:       of an earlier run, or of as many pictures that were encoded with this model
    stop_scale: how many scales are made; 0 for all. Fewer cannot be refined
    returns     (pictures, 3, tile, tile) in [0, 1] on the CPU, and their tokens
    Raises InputError before any work: for a model that restores, for a label beyond it.
    """
    check_makes_classes(model)
    check_label(model, label)
    kept, execution = kept or Kept(), execution or _execution(model)
    scales = _checked_scales(model, pictures, kept, stop_scale)
    schedule = model.config.schedule
    sampling = replace(sampling, quality_class=label, guidance_schedule=CLASS_TO_IMAGE)
    if sampling.guidance < 0:
        sampling = replace(sampling, guidance=-sampling.guidance * model.defaults.guidance)
    refining = refining or RefineSettings()
    guided = sampling.guided_scales(schedule) == schedule.num_scales
    guidance = refiner_guidance(model, sampling.guidance) if guided else 0.0
    refining = replace(refining, guidance=guidance)
    seeds = picture_seeds(seed, pictures)
    work = ClassWork(model, sampling, refining, seeds, execution.device, kept, scales)
    return _Run(model, work, _canvas(model, pictures), execution).made()


class ClassWork(SamplingWork):
    """The scales, and the refiner behind the last of all."""

    def __init__(
        self,
        model: VARSR,
        sampling: SampleSettings,
        refining: RefineSettings,
        seeds: Sequence[TileSeed],
        device: torch.device,
        kept: Kept,
        scales: int,
    ) -> None:
        nothing = torch.zeros(len(seeds), 0, model.config.transformer.width)
        super().__init__(
            model, nothing, sampling, seeds, device, kept.tokens, kept.scales, steps=scales
        )
        self.scales, self.refining = scales, refining
        if refining.strength != 0 and scales == model.config.schedule.num_scales:
            self.steps += 1

    def task(self, k: int) -> Task:
        if k < self.scales:
            return super().task(k)
        return refining_task(self.model, 2 if self.refining.guidance else 1, self.refining)

    def step(self, state: SampleState, numbers: Sequence[int], k: int) -> None:
        if k < self.scales:
            super().step(state, numbers, k)
        else:
            refine_state(self.model, state, self.refining)


class _Run:
    """All stages in one session, so that its progress is one."""

    def __init__(self, model: VARSR, work: ClassWork, canvas: Canvas, execution: Execution) -> None:
        self.model, self.work, self.canvas = model, work, canvas
        decoder = VARSRDecoder(model)
        self.decoding = Decoding(decoder, [canvas.grid] * canvas.images, canvas.blended)
        pixels = canvas.images * canvas.height * canvas.width
        self.finishing = Task(FINISHING, [on_pixels(pixels)])
        self.sketching = sketch_task(model)
        plan = [*plan_of(work, canvas.tiles), *self.decoding.plan(canvas.tiles)]
        plan += [(self.finishing, 1), *([(self.sketching, 1)] if execution.pictures else [])]
        self.session = Session(execution, plan, canvas.tiles)

    def made(self) -> tuple[Tensor, TokenPyramid]:
        """Pictures and tokens, on the CPU."""
        session, work, canvas = self.session, self.work, self.canvas
        preview = self._preview() if session.execution.pictures else None
        cells = [canvas.grid.cells()] * canvas.images
        latents = TileLoop(work, cells, canvas.mode, session, preview=preview).run()
        pictures = torch.zeros(canvas.images, 3, canvas.height, canvas.width)
        self.decoding.run(latents[-1], range(canvas.tiles), session, pictures)
        last = (lambda: reduced(pictures[-1])) if session.execution.pictures else None
        with session.doing(self.finishing, draw=last):
            tokens = TokenPyramid(
                tuple(work.token_ids),
                tuple(latents[: work.scales]),
                canvas,
                self.model.fingerprint,
                hidden=work.hidden,
                refined=latents[-1] if len(latents) > work.scales else None,
            ).to(pictures.device)
        return pictures, tokens

    def _preview(self) -> ClassPreview:
        def sketch() -> ClassPreview:
            with self.session.doing(self.sketching):
                fitted = class_sketch(self.model, self.session.device)
            return ClassPreview(fitted, self.canvas.images, self.canvas.width)

        return self.session.single(sketch)


def _execution(model: VARSR) -> Execution:
    device = model.word_embed.weight.device
    return execution_on(device, tile_bytes(model), weight_bytes(model))


def _canvas(model: VARSR, pictures: int) -> Canvas:
    """A picture is a tile."""
    config = model.config
    tile = config.tile_size
    grid = TileGrid(tile, tile, tile=tile, overlap=0, align=config.tokenizer.downsampling)
    return Canvas(pictures, tile, tile, grid, "independent")


def _checked_scales(model: VARSR, pictures: int, kept: Kept, stop: int) -> int:
    """Refuses scales and tokens that are not there; returns how many scales are made."""
    if pictures < 1:
        raise InputError(f"pictures is {pictures}; 1 or more is expected")
    stop = check_scales(model, kept.scales, stop)
    if kept.scales:
        tokens = check_kept(model, kept.tokens, kept.scales, "VARSR Class to Image")
        canvas, tile = tokens.canvas, model.config.tile_size
        if (canvas.images, canvas.height, canvas.width) != (pictures, tile, tile):
            raise InputError(
                f"tokens hold {canvas.images} pictures of {canvas.width}x{canvas.height}; "
                f"{pictures} of {tile}x{tile} are expected, as `pictures` says. Change it, or "
                f"encode pictures to {tile}x{tile}"
            )
    return stop
