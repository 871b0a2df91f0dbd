"""Pictures read, restored and written; small ones several at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ...tiling.canvas import Canvas
from ..jobs import Picture
from ..model import Model
from ..options import Options
from ..outcome import Outcome, attempt
from ..part_files import whole_result
from ..report import TileCount, WatchFn
from .reading import DecodedPicture, read_mask, read_picture
from .writing import check_writable, too_long, write_picture


@dataclass(frozen=True)
class _Read:
    """A picture that waits for others; seconds: that reading it took."""

    job: Picture
    known: Outcome
    content: DecodedPicture
    canvas: Canvas
    mask: Tensor | None
    seconds: float


class PictureRestorer:
    """Restores pictures in groups: as many as fill the device, unless a number is given."""

    def __init__(self, model: Model, options: Options, watch: WatchFn) -> None:
        self.model, self.options, self.watch = model, options, watch
        self.group: list[_Read] = []
        self.batch = model.batch()

    def add(self, job: Picture) -> Iterator[Outcome]:
        """Outcomes of all pictures that are finished by now."""
        read = self._read(job)
        if isinstance(read, Outcome):
            yield read
            return
        if not self._take(read):
            yield from self.flush()
            self._take(read)
        if self._full:
            yield from self.flush()

    def flush(self) -> Iterator[Outcome]:
        """Restores those that wait; call it after the last."""
        group, self.group = self.group, []
        if group:
            yield from self._restore(group)

    def _take(self, read: _Read) -> bool:
        """Whether there is room for it; for the first there is."""
        if not self.group:
            self.batch = self.model.batch()
        fits = not self._full if self.options.together else self.batch.take(read.canvas)
        if fits:
            self.group.append(read)
        return fits

    @property
    def _full(self) -> bool:
        most = self.options.together
        return len(self.group) >= most if most else self.batch.full

    def _read(self, job: Picture) -> _Read | Outcome:
        began = time.perf_counter()
        known = attempt(Outcome(job.name), lambda: Outcome.of_inputs(job))

        def read() -> _Read:
            content = read_picture(Path(job.source), self.options.size)
            canvas = self.model.canvas(content.pixels)
            channels, sides = content.pixels.shape[1], (canvas.height, canvas.width)
            check_writable(self.options.form, Path(job.output).suffix, channels, sides)
            mask = read_mask(Path(job.mask)) if job.mask else None
            return _Read(job, known, content, canvas, mask, time.perf_counter() - began)

        return known if known.error else attempt(known, read)

    def _restore(self, group: Sequence[_Read]) -> Iterator[Outcome]:
        began = time.perf_counter()
        results = attempt(group[0].known, lambda: self._results(group))
        if isinstance(results, Outcome):
            if len(group) == 1:
                yield results
                return
            for read in group:  # one of them is to blame, the others need not suffer
                yield from self._restore([read])
            return
        per_tile = (time.perf_counter() - began) / sum(read.canvas.tiles for read in group)
        for read, result in zip(group, results, strict=True):
            yield self._write(read, result, per_tile * read.canvas.tiles)

    def _results(self, group: Sequence[_Read]) -> list[Tensor]:
        count = TileCount(self.watch)
        count.begin(0.0, len(group))
        images = [read.content.pixels[0] for read in group]
        masks = [read.mask[0] for read in group if read.mask is not None]  # of all or of none
        return self.model.restore_each(images, masks or None, count)

    def _write(self, read: _Read, result: Tensor, seconds: float) -> Outcome:
        began = time.perf_counter()
        path = Path(read.job.output)

        def write() -> Outcome:
            with whole_result(path) as part:
                write_picture(result, read.content, part, path.suffix, self.options.form)
                size = part.stat().st_size
            taken = read.seconds + seconds + time.perf_counter() - began
            made = replace(read.known, bytes=size, tiles=read.canvas.tiles, seconds=taken)
            return replace(made, notes=too_long(read.content, path.suffix))

        return attempt(read.known, write)
