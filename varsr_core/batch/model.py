"""A model on its device, ready for any number of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..checkpoint import FAMILIES, build_restorer, load_checkpoint
from ..errors import CheckpointError
from ..family import Checkpoint
from ..runtime.device import execution_on, tiles_that_fit
from ..runtime.execution import Execution
from ..runtime.progress import ProgressFn
from ..tiling.batching import PictureBatch
from ..tiling.canvas import Canvas
from ..upscaling import upscale, upscale_each
from .options import Options


def read_model(options: Options) -> Checkpoint:
    """The file, mapped into memory. Raises CheckpointError, also for one of another family."""
    read = load_checkpoint(FAMILIES[options.family].files(Path(options.model)))
    if read.family.name != options.family:
        raise CheckpointError(
            f"{options.model} is a model of {read.family.name}; choose --family {read.family.name}"
        )
    return read


class Model:
    """Loads once, restores often. Raises CheckpointError or InputError when it cannot.

    read: holds the file where this process has read it already; taken out, for nothing else is to
          keep it in memory
    """

    def __init__(self, options: Options, read: list[Checkpoint] | None = None) -> None:
        self.options = options
        self.restorer = build_restorer(
            read.pop() if read else read_model(options),
            device=options.device,
            dtype=options.dtype,
            choices=options.choices,
        )

    def canvas(self, pixels: Tensor) -> Canvas:
        """Of pictures (B, C, H, W). Raises InputError for what cannot be restored."""
        sides, tiling = (self.restorer.tile_size, self.restorer.align), self.options.settings.tiling
        return Canvas.of(pixels, self.options.size, *sides, tiling)

    def batch(self) -> PictureBatch:
        """As many pictures as now fit on the device together."""
        return PictureBatch(tiles_that_fit(self.restorer.device, self.restorer.tile_bytes))

    def restore_each(
        self, images: Sequence[Tensor], masks: Sequence[Tensor] | None, on_progress: ProgressFn
    ) -> list[Tensor]:
        """images: (C, H, W) each; see `upscale_each()`, which does all of it."""
        return upscale_each(
            images,
            self.options.size,
            self.restorer,
            seed=self.options.seed,
            settings=self.options.settings,
            masks=masks,
            execution=self._execution(on_progress),
        )

    def restore(self, pixels: Tensor, mask: Tensor | None, on_progress: ProgressFn) -> Tensor:
        """pixels: (B, C, H, W) in [0, 1]; see `upscale()`, which does all of it."""
        return upscale(
            pixels,
            self.options.size,
            self.restorer,
            seed=self.options.seed,
            settings=self.options.settings,
            mask=mask,
            execution=self._execution(on_progress),
        )

    def _execution(self, on_progress: ProgressFn) -> Execution:
        return execution_on(self.restorer.device, self.restorer.tile_bytes, on_progress)
