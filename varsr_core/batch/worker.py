"""Tasks done with one model: files read, restored, and written whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..family import Checkpoint, Family
from .films.restorer import FilmRestorer
from .jobs import Segment, Task
from .model import Model
from .options import Options
from .outcome import Outcome
from .pictures.restorer import PictureRestorer
from .report import WatchFn


class Worker:
    """Loads the model once; read: see `Model`."""

    def __init__(
        self,
        options: Options,
        watch: WatchFn = lambda finished, tiles: None,
        read: list[Checkpoint[Family]] | None = None,
    ) -> None:
        model = Model(options, read)
        self.pictures = PictureRestorer(model, options, watch)
        self.films = FilmRestorer(model, options, watch)

    def do(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """One outcome for each task; pictures are read and restored a few at a time.

        What is wrong with a file is told in its outcome; nothing is raised for it.
        """
        for task in tasks:
            if isinstance(task, Segment):
                yield from self.pictures.flush()
                yield self.films.restore(task)
            else:
                yield from self.pictures.add(task)
        yield from self.pictures.flush()
