"""One film restored by itself, for callers that have a model of their own and no result folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import InputError
from ...runtime.execution import Execution
from ...runtime.progress import ProgressFn
from ...tiling.restorer import Restorer
from ...tiling.steady import Clip
from ..jobs import Film, Segment
from ..model import Model
from ..options import Options
from ..outcome import Outcome
from .plan import guessed_frames
from .reader import FilmReader, input_errors, open_film
from .restorer import FilmRestorer
from .unfinished import UnfinishedFilms

BYTES_PER_PIXEL = 0.12  # of a result, with its segments beside it: noisy films at crf 16 have half

FractionFn = Callable[[float], None]
"""Told how much of the film is restored, 0 to 1."""


class CallersModel(Model):
    """A model that the caller has loaded, run by the caller's services.

    execution: of a call, with the ProgressFn that counts its tiles
    raised:    what ended a call, so that it can be passed on as it is
    """

    def __init__(
        self,
        options: Options,
        restorer: Restorer[Any],
        execution: Callable[[ProgressFn], Execution],
    ) -> None:
        self.options, self.restorer, self.execution = options, restorer, execution
        self.raised: Exception | None = None

    def restore(
        self,
        pixels: Tensor,
        mask: Tensor | None,
        on_progress: ProgressFn,
        clip: Clip | None = None,
    ) -> Tensor:
        try:
            return super().restore(pixels, mask, on_progress, clip)
        except Exception as error:
            self.raised = error
            raise

    def _execution(self, on_progress: ProgressFn) -> Execution:
        return self.execution(on_progress)


def restore_film(
    source: Path,
    folder: Path,
    options: Options,
    fingerprint: str,
    model: CallersModel,
    watch: FractionFn,
) -> tuple[Path, tuple[str, ...]]:
    """Restores a film into `folder`, under a name of its own; goes on where a call was stopped.

    options:     which leave nothing to the model
    fingerprint: of the weights
    returns      the result, and what was converted or left out
    Raises InputError for what is no film and where the disk has no room; what ends a call of the
    model, such as the caller's way to cancel, is passed on.
    """
    reader = FilmReader(str(source), options.form.deinterlaces)  # refuses what is no film
    films = UnfinishedFilms(folder, options.settings_hash(fingerprint), options)
    name = films.name_of(Film(source.name, str(source), "")) + options.form.of_film(source)[0]
    film = Film(name, str(source), str(folder / name))
    if (folder / name).is_file():
        return folder / name, ()
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(reader, folder, options)
    begun = films.begin(film)
    try:
        outcome = begun if isinstance(begun, Outcome) else _restored(begun, films, model, watch)
    finally:
        films.tidy([film])  # what is done of a film that was stopped stays
    if model.raised is not None:
        raise model.raised
    if outcome.error:
        raise InputError(outcome.error)
    return folder / name, outcome.notes


def _restored(
    segments: Sequence[Segment], films: UnfinishedFilms, model: CallersModel, watch: FractionFn
) -> Outcome:
    """What became of the film; ends at the first segment that fails."""
    restorer = FilmRestorer(model, model.options, lambda done, _: watch(films.fraction + done))
    outcome = Outcome("")
    for segment in segments:
        outcome = restorer.restore(segment)
        if outcome.error:
            return outcome
        outcome = films.add(outcome)[1] or outcome
        watch(films.fraction)
    return outcome


def frames_of(source: Path) -> int:
    """About how many frames a film has. Raises InputError for what is no film."""
    with input_errors(), open_film(str(source)) as opened:
        return guessed_frames(opened)


def _check_room(reader: FilmReader, folder: Path, options: Options) -> None:
    first: Any = reader.first
    height, width = options.size.of(first.height, first.width)
    frames = guessed_frames(reader.source)
    needed, free = int(frames * height * width * BYTES_PER_PIXEL), shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"the result, of about {frames} frames of {width}x{height}, may need "
            f"{needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; make room, choose "
            "a smaller output, or start ComfyUI with --temp-directory on another disk"
        )
