"""Files that come in pieces, as `split` makes them and `cat` joins them."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import CheckpointError
from .tensors import check_space

PIECE = re.compile(r"(.+)_part_?([a-z]{2}|\d+)")  # NSARM_part_aa, model_part_01


@contextmanager
def joined_pieces(paths: Sequence[Path], folder: Path) -> Iterator[list[Path]]:
    """The files, pieces joined to files of `folder`, which are removed again.

    Raises CheckpointError when a piece is missing or the disk has no room.
    """
    pieces: dict[tuple[Path, str], dict[int, Path]] = {}
    whole = []
    for path in paths:
        match = PIECE.fullmatch(path.name)
        if match is None:
            whole.append(path)
        else:
            pieces.setdefault((path.parent, match[1]), {})[_number(match[2])] = path
    if not pieces:
        yield whole
        return
    for numbered in pieces.values():
        _check_complete(numbered)
    check_space(
        folder / "joined", sum(p.stat().st_size for n in pieces.values() for p in n.values())
    )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".joined-") as temporary:
        for (_, name), numbered in pieces.items():
            joined = Path(temporary) / f"{name}.pth"
            with joined.open("wb") as target:
                for _, piece in sorted(numbered.items()):
                    with piece.open("rb") as source:
                        shutil.copyfileobj(source, target, 2**24)
            whole.append(joined)
        yield whole


def _number(suffix: str) -> int:
    """aa is 0, ab 1, ba 26; digits are what they say."""
    if suffix.isdigit():
        return int(suffix)
    first, second = (ord(letter) - ord("a") for letter in suffix)
    return 26 * first + second


def _check_complete(numbered: dict[int, Path]) -> None:
    """Refuses gaps; whether the last piece is there shows when the whole is read."""
    for path in numbered.values():
        if not path.is_file():
            raise CheckpointError(f"there is no file {path}; put it there")
    first, last = min(numbered), max(numbered)
    missing = sorted(set(range(first, last)) - numbered.keys())
    letters = not numbered[last].name[-1].isdigit()
    if letters and first > 0:
        missing = [*range(first), *missing]
    if missing:
        before = [number for number in numbered if number < missing[0]]
        place = (
            f"after {numbered[max(before)].name}" if before else f"before {numbered[first].name}"
        )
        raise CheckpointError(
            f"{len(missing)} of the pieces are missing, the first {place}; give all of them"
        )
