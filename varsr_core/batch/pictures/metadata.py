"""What a picture's file says beside its pixels, as far as it is still true of the result."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from . import tiff
from .tiff import TiffPage

KEPT_TAGS = (270, 271, 272, 305, 306, 315, 33432)  # description, make, model, software, time, ...
STALE_TAGS = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.MakerNote)
INCHES = {2: 1.0, 3: 2.54}  # of what a TIFF's resolution is counted in, in one inch
TURNED = (5, 6, 7, 8)  # orientations that swap the sides
MOST_DPI = 65535  # that a JPEG holds
RGB_SPACE = slice(16, 20)  # where a colour profile says what it is for
IPTC_RESOURCE = 0x0404  # among those that Photoshop writes
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEY, COMMENT_KEY = "XML:com.adobe.xmp", "Comment"
# Sizes, and how samples lie in the file: tifffile's, ImageJ's and microscopes' descriptions.
STALE_DESCRIPTION = re.compile(
    r'\s*(\{.*"shape"|shape=|ImageJ=|<\?xml[^>]*>.*<OME|<OME)', re.DOTALL
)
# Copies of what is kept otherwise, with an orientation that was applied.
STALE_TEXTS = re.compile(rb"Raw profile type (exif|APP1|icc|icm|xmp)$|XML:com\.adobe\.xmp$", re.I)
STALE_XMP = rb"tiff:(?:Orientation|ImageWidth|ImageLength)|exif:Pixel[XY]Dimension"
STALE_XMP_PARTS = re.compile(
    rb"""\s(?:%b)\s*=\s*(?:"[^"]*"|'[^']*')|<(%b)>[^<]*</\1>""" % (STALE_XMP, STALE_XMP)
)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Of a picture; empty where nothing is said.

    icc:     colour profile of the RGB values
    exif:    without the orientation, which was applied, and without a thumbnail
    dpi:     across and down
    xmp:     likewise without orientation and sizes
    iptc:    as TIFF and Photoshop hold it
    comment: of a JPEG, or the PNG's text of that name
    texts:   chunks of a PNG, kind and content
    """

    icc: bytes = b""
    exif: bytes = b""
    dpi: tuple[float, float] | None = None
    xmp: bytes = b""
    iptc: bytes = b""
    comment: str = ""
    texts: tuple[tuple[bytes, bytes], ...] = ()


def read_metadata(path: Path, image: Image.Image | None, page: TiffPage | None) -> Metadata:
    """image: loaded, or None where Pillow cannot open it; page: of a TIFF"""
    exif = Image.Exif() if image is None else image.getexif()
    if page is not None:
        if image is None:
            exif.update({tag: page.tags[tag] for tag in KEPT_TAGS if tag in page.tags})
        orientation = page.one(tiff.ORIENTATION, 1)  # Pillow may have applied and forgotten it
        icc, xmp, iptc = (page.raw(tag) for tag in (tiff.PROFILE, tiff.XMP, tiff.IPTC))
        dpi, comment, texts = _dpi(page.tags), "", ()
    else:
        info = {} if image is None else image.info
        orientation = exif.get(tiff.ORIENTATION, 1)
        icc, xmp = info.get("icc_profile") or b"", info.get("xmp") or b""
        iptc = (info.get("photoshop") or {}).get(IPTC_RESOURCE, b"")
        dpi, comment, texts = info.get("dpi") or _dpi(exif), info.get("comment") or "", ()
        if isinstance(image, PngImagePlugin.PngImageFile):
            said = image.text
            xmp, comment = said.get(XMP_KEY, xmp), said.get(COMMENT_KEY, "")
            texts = tuple(_texts(path))
    return Metadata(
        icc=icc if icc[RGB_SPACE] == b"RGB " else b"",  # results are RGB whatever the input was
        exif=_kept(exif),
        dpi=_upright(dpi, orientation),
        xmp=STALE_XMP_PARTS.sub(b"", xmp.encode() if isinstance(xmp, str) else xmp).rstrip(b"\0"),
        iptc=iptc,
        comment=comment if isinstance(comment, str) else _decoded(comment),
        texts=texts,
    )


def _dpi(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    """Of tags as TIFF and EXIF have them."""
    unit = INCHES.get(tags.get(tiff.RESOLUTION_UNIT, 2))
    try:
        return tags[tiff.X_RESOLUTION] * unit, tags[tiff.Y_RESOLUTION] * unit
    except (KeyError, TypeError):  # nothing is said, or without a unit of length
        return None


def _upright(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    """None for what is no resolution."""
    if dpi is None or not all(0 < value <= MOST_DPI for value in dpi):  # true for NaN too
        return None
    across, down = map(float, dpi)
    return (down, across) if orientation in TURNED else (across, down)


def _decoded(comment: bytes) -> str:
    comment = comment.rstrip(b"\0")
    try:
        return comment.decode()
    except UnicodeDecodeError:
        return comment.decode("latin-1")


def _texts(path: Path) -> list[tuple[bytes, bytes]]:
    """Chunks of a PNG as they are, several of one name too."""
    found = []
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in TEXT_CHUNKS:
                content = file.read(length)
                if not STALE_TEXTS.match(content.split(b"\0", 1)[0]):
                    found.append((kind, content))
            else:
                file.seek(length, 1)
            file.seek(4, 1)  # the checksum
    return found


def _kept(exif: Image.Exif) -> bytes:
    """What is still true of the result: who made it, when, where and with what."""
    kept = Image.Exif()
    for tag in KEPT_TAGS:
        stale = tag == tiff.DESCRIPTION and STALE_DESCRIPTION.match(str(exif.get(tag)))
        if tag in exif and not stale:
            kept[tag] = as_written(exif[tag])
    empty = not len(kept)
    for group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        said = {
            tag: as_written(value)
            for tag, value in exif.get_ifd(group).items()
            if tag not in STALE_TAGS
        }
        if said:
            empty = False
            kept.get_ifd(group).update(said)
    try:
        return b"" if empty else kept.tobytes()
    except Exception:  # a maker's own tags may be beyond Pillow; the picture is worth more
        return b""


def as_written(value: Any) -> Any:
    """A value of EXIF that keeps its bytes: Pillow reads text as Latin-1 and writes ASCII alone."""
    foreign = isinstance(value, str) and not value.isascii()
    return value.encode("latin-1", "replace") if foreign else value
