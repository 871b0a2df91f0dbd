"""Files that come in pieces, as `split` makes them and `cat` joins them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import CheckpointError
from .atomic import unfinished_file
from .soundness import check_file
from .tensors import check_space

PIECE = re.compile(r"(.+)_part_?([a-z]{2}|\d+)")  # NSARM_part_aa, model_part_01


@contextmanager
def joined_pieces(paths: Sequence[Path], folder: Path) -> Iterator[dict[Path, str]]:
    """The files and their names, pieces joined to files of `folder`, which are removed again.

    Raises CheckpointError when a piece is missing, of the wrong size or not to be read, and when
    the folder cannot be written or the disk has no room.
    """
    pieces: dict[tuple[Path, str], dict[int, Path]] = {}
    whole = {}
    for path in paths:
        match = PIECE.fullmatch(path.name)
        if match is None:
            whole[path] = path.name
        else:
            pieces.setdefault((path.parent, match[1]), {})[_number(match[2])] = path
    for numbered in pieces.values():
        _check_complete(numbered)
    size = sum(p.stat().st_size for numbered in pieces.values() for p in numbered.values())
    check_space(folder / "joined", size)
    joined = {}
    with ExitStack() as stack:
        for (_, name), numbered in pieces.items():
            try:
                part = stack.enter_context(unfinished_file(folder))
                _join([piece for _, piece in sorted(numbered.items())], part)
            except OSError as error:
                raise CheckpointError(
                    f"the pieces of {name} could not be joined in {folder} ({error.strerror}); "
                    "they have to be readable, the folder writable, its disk large enough"
                ) from error
            joined[part] = f"{name}.pth"
        try:
            yield whole | joined
        except CheckpointError as error:
            raise _renamed(error, joined) from error


def _join(pieces: Sequence[Path], target: Path) -> None:
    with target.open("wb") as file:
        for piece in pieces:
            with piece.open("rb") as source:
                shutil.copyfileobj(source, file, 2**24)


def _renamed(error: CheckpointError, names: Mapping[Path, str]) -> CheckpointError:
    """With the names of what was joined, as people know it."""
    text = str(error)
    for path, name in names.items():
        text = text.replace(path.name, name)
    return CheckpointError(text)


def _number(suffix: str) -> int:
    """aa is 0, ab 1, ba 26; digits are what they say."""
    if suffix.isdigit():
        return int(suffix)
    first, second = (ord(letter) - ord("a") for letter in suffix)
    return 26 * first + second


def _check_complete(numbered: dict[int, Path]) -> None:
    """Refuses gaps; whether the last piece is there shows when the whole is read."""
    for path in numbered.values():
        check_file(path)
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
    sizes = {number: path.stat().st_size for number, path in sorted(numbered.items())}
    for number, size in sizes.items():
        if size == 0 or (number != last and size != sizes[first]):
            raise CheckpointError(
                f"{numbered[number].name} has {size:,} bytes and {numbered[first].name} "
                f"{sizes[first]:,}; all pieces but the last are expected to be equally large. "
                "Download them again"
            )
