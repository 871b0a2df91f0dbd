"""Pictures that earlier versions restored wrongly, as far as it can be told from their files."""

from __future__ import annotations

from pathlib import Path

from ...images.seen import alpha_of, is_grey, opacity
from ..jobs import Picture
from .reading import read_picture
from .tiff import EXTRA, ORIENTATION, PREMULTIPLIED, TILE_WIDTH, UNSPECIFIED, tiff_page


def doubt_of(job: Picture) -> str:
    """Why a result of an earlier version may be wrong, of pictures that it did not know; else "".

    Reads the picture; raises what that raises.
    """
    if any(_was_misread(path) for path in job.inputs):
        return "a TIFF that was misread"
    pixels = read_picture(Path(job.source)).pixels
    if is_grey(pixels):
        return "grey, and may have got a tint"
    hides = opacity(alpha_of(pixels)) is not None
    return "transparent, and may show the colours that it hides" if hides else ""


def _was_misread(path: Path) -> bool:
    page = tiff_page(path)
    if page is None:
        return False
    if not page.deep:
        return page.one(ORIENTATION, 1) != 1  # turned twice
    foreign = bool({UNSPECIFIED, PREMULTIPLIED} & set(page.all(EXTRA)))
    return foreign or bool(page.all(TILE_WIDTH))
