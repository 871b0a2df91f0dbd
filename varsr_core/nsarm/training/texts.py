"""Features of the prompts of training pictures, as files: one for all, or one for each.

The authors' prompts are captions of a vision-language model. Files are those that NSARM Encode
Text writes; a picture's bears its name, so pictures of one name share it. As in Infinity a text is
left out now and then, and the learned features of no text stand in for it; how often NSARM did so
is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError
from ...training.steps.draws import draw_rows, rows_of
from ..restorer import NO_TEXT_TOKENS
from ..text import TextEncoder
from ..text_files import check_features, load_text

SUFFIX = ".safetensors"
KEPT = 64  # texts in memory, up to 4 MB each

Rows = dict[tuple[Path | None, int], list[int]]


class Texts:
    """
    place: a file, a folder, or None for no text at all
    width: of features that the model reads

    Raises InputError or CheckpointError for a file that is not as expected.
    """

    def __init__(self, place: Path | None, width: int) -> None:
        self.place, self.width = place, width
        self.features = lru_cache(KEPT)(self._features)
        if place is None or place.is_dir():
            return
        if not place.is_file():
            raise InputError(
                f"there is no {place}; --texts is a file of NSARM Encode Text, or a folder of them"
            )
        self.features(place)  # what is wrong with it is told before time is spent

    def check(self, pictures: Sequence[Path]) -> None:
        """Raises InputError where one of them has no text, before time is spent."""
        if self.place is not None and self.place.is_dir():
            missing = [picture for picture in pictures if not self._path(picture).is_file()]
            if missing:
                first = missing[0]
                raise InputError(
                    f"{len(missing)} of {len(pictures)} pictures have no text: for {first.name} "
                    f"there is no {self._path(first)}. Encode one with NSARM Encode Text, or name "
                    "a single file for all pictures with --texts"
                )

    def _path(self, picture: Path) -> Path:
        assert self.place is not None
        return self.place / (picture.stem + SUFFIX)

    def _features(self, path: Path) -> Tensor:
        found = load_text(path).features
        check_features(found, path.name, self.width)
        return found

    def of(self, picture: Path | None) -> Path | None:
        """File of a picture's text; None where there is none, or the picture is not known."""
        if self.place is None or not self.place.is_dir():
            return self.place
        return None if picture is None else self._path(picture)

    def grouped(self, files: Sequence[Path | None], without: Sequence[bool]) -> Rows:
        """Rows of a batch by their text and its length.

        files:   of the text of each picture
        without: which of them are to be learned without it; they look at as many tokens of no text
        """
        rows: Rows = {}
        for row, (path, none) in enumerate(zip(files, without, strict=True)):
            length = NO_TEXT_TOKENS if path is None else len(self.features(path))
            rows.setdefault((None if none else path, length), []).append(row)
        return rows

    def read(self, encoder: TextEncoder, path: Path | None, length: int) -> Tensor:
        """Features (length, width) of a text, or the learned ones of none, on the device."""
        learned = encoder.unconditional.weight
        return learned[:length] if path is None else self.features(path).to(learned.device)


def left_out(files: Sequence[Path | None], share: float, generator: torch.Generator) -> list[bool]:
    """Which pictures are to be learned without their text, drawn."""
    rows = rows_of(generator, len(files))
    drawn = draw_rows(generator, rows, lambda n: torch.rand(n, generator=generator))
    return (drawn < share).tolist()
