"""Which picture of one folder belongs to which of another."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from PIL import Image, ImageOps

from varsr_core.batch.pictures.formats import PICTURE_FORMATS
from varsr_core.errors import InputError

SHOWN = 3  # names in a sentence


def pictures(folder: Path) -> dict[str, Path]:
    """All below a folder, by place and stem. Raises InputError where there are none, or doubles."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name one with pictures in it")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in PICTURE_FORMATS or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(
                f"{found[name].name} and {path.name} in {path.parent} have one name, and pictures "
                "are told apart by their names without suffix; move or rename one"
            )
        found[name] = path
    if not found:
        raise InputError(f"{folder} holds no pictures ({', '.join(PICTURE_FORMATS)})")
    return found


def matched(names: Collection[str], others: Collection[str], where: Path) -> dict[str, str]:
    """The partner of each name among others.

    That of the same place and stem; where some have none, but all of these would have one if the
    same ending were added to their names or taken from them (0801 and 0801x4, cat and cat_out),
    that one.
    Raises InputError.
    """
    missing = [name for name in names if name not in others]
    if not missing:
        return {name: name for name in names}
    for ending in _endings(missing[0], others):
        for change in (lambda n, e=ending: n + e, lambda n, e=ending: n.removesuffix(e)):
            found = {name: name if name in others else change(name) for name in names}
            if set(found.values()) <= set(others) and len(set(found.values())) == len(found):
                return found
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    raise InputError(
        f"there is no {', '.join(missing[:SHOWN])}{more} in {where}, which holds "
        f"{', '.join(sorted(others)[:SHOWN])}{', ...' if len(others) > SHOWN else ''}; use the "
        "same stems, or stems that all differ by one ending"
    )


def _endings(name: str, others: Collection[str]) -> list[str]:
    """By which others are longer or shorter than this name."""
    longer = [other.removeprefix(name) for other in others if other.startswith(name)]
    return longer + [name.removeprefix(other) for other in others if name.startswith(other)]


def opened(path: Path) -> Image.Image:
    """RGB, upright. Raises InputError."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}") from error


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an upright picture."""
    return opened(path).size
