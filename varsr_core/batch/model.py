"""A model on its device, ready for any number of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..checkpoint import FAMILIES, build_restorer, load_checkpoint, with_restorer
from ..errors import CheckpointError
from ..family import Checkpoint, Family
from ..runtime.device import execution_on
from ..runtime.execution import Execution
from ..runtime.progress import ProgressFn, silent
from ..tiling.batching import PictureBatch
from ..tiling.canvas import Canvas
from ..tiling.steady import Clip
from ..upscaling import upscale, upscale_each
from .options import Options


def read_model(options: Options) -> Checkpoint[Family]:
    """The file, mapped into memory. Raises CheckpointError, also for one of another family, and
    InputError where the options do not suit it."""
    read = with_restorer(load_checkpoint(FAMILIES[options.family].files(Path(options.model))))
    if read.family.name != options.family:
        raise CheckpointError(
            f"{options.model} is a model of {read.family.name}; choose --family {read.family.name}"
        )
    read.family.check(read.tensors, options.choices)
    return read


class Model:
    """Loads once, restores often. Raises CheckpointError or InputError when it cannot.

    read: holds the file where this process has read it already; taken out, for nothing else is to
          keep it in memory
    """

    def __init__(self, options: Options, read: list[Checkpoint[Family]] | None = None) -> None:
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
        """As many pictures as fill the device together."""
        return PictureBatch(self._execution(silent).prepare())

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

    def restore(
        self,
        pixels: Tensor,
        mask: Tensor | None,
        on_progress: ProgressFn,
        clip: Clip | None = None,
    ) -> Tensor:
        """pixels: (B, C, H, W) in [0, 1]; see `upscale()`, which does all of it."""
        return upscale(
            pixels,
            self.options.size,
            self.restorer,
            seed=self.options.seed,
            settings=self.options.settings,
            mask=mask,
            execution=self._execution(on_progress),
            clip=clip,
        )

    def _execution(self, on_progress: ProgressFn) -> Execution:
        of = self.restorer
        return execution_on(of.device, of.tile_bytes, of.weight_bytes, on_progress)
