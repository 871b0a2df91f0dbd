"""Pictures that earlier versions restored wrongly, as far as it can be told from their files."""

from __future__ import annotations

from pathlib import Path

from ...images.seen import alpha_of, is_grey, opacity
from ..jobs import Picture
from .reading import read_picture
from .tiff import EXTRA, ORIENTATION, PREMULTIPLIED, TILE_WIDTH, UNSPECIFIED, tiff_page


def is_mended(job: Picture) -> bool:
    """Whether a result of an earlier version may be wrong: tinted where the picture is grey, or
    coloured by what transparency hides, or from a TIFF that was misread.

    Reads the picture; of one that cannot be read the answer is no.
    """
    try:
        if any(_was_misread(path) for path in job.inputs):
            return True
        pixels = read_picture(Path(job.source)).pixels
    except Exception:  # decoders raise whatever a broken file leads them to
        return False
    return is_grey(pixels) or opacity(alpha_of(pixels)) is not None


def _was_misread(path: Path) -> bool:
    page = tiff_page(path)
    if page is None:
        return False
    if not page.deep:
        return page.one(ORIENTATION, 1) != 1  # turned twice
    foreign = bool({UNSPECIFIED, PREMULTIPLIED} & set(page.all(EXTRA)))
    return foreign or bool(page.all(TILE_WIDTH))
