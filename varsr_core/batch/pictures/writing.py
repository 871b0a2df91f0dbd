"""Restored pictures written to files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin
from torch import Tensor

from ...errors import InputError
from ..output_format import OutputFormat
from . import tiff
from .formats import LONGEST_SIDE, PICTURE_FORMATS
from .metadata import COMMENT_KEY, IPTC_RESOURCE, KEPT_TAGS, XMP_KEY, Metadata, as_written
from .reading import DecodedPicture

PNG_LEVEL = 4  # of compression, as ComfyUI's Save Image has it
PNG_COLORS = {3: 2, 4: 6}  # channels -> colour type
DEFLATE, UNASSOCIATED_ALPHA = 8, 2  # values of TIFF's tags
BYTE, LONG, UNDEFINED = 1, 4, 7  # types of tags
METRE = 1 / 0.0254  # in inches
MARKER_BYTES = 65533  # that a JPEG's marker holds
XMP_MARKER = b"http://ns.adobe.com/xap/1.0/\0"


def check_writable(form: OutputFormat, suffix: str, channels: int, sides: tuple[int, int]) -> None:
    """Refuses before the work what the format cannot hold. Raises InputError.

    channels: of the input; sides: of the output
    """
    name = PICTURE_FORMATS[suffix]
    if name == "jpeg" and channels == 4:
        raise InputError("JPEG cannot hold transparency; choose --format png, webp or tiff")
    if max(sides) > LONGEST_SIDE.get(name, max(sides)):
        raise InputError(
            f"the result has a side of {max(sides)} pixels and {name} holds "
            f"{LONGEST_SIDE[name]}; choose --format png or tiff"
        )


def write_picture(
    pixels: Tensor, source: DecodedPicture, path: Path, suffix: str, form: OutputFormat
) -> None:
    """pixels: (3 or 4, H, W) in [0, 1]; suffix: of the name that the file will have."""
    rows = pixels.movedim(0, -1).cpu().numpy()
    if form.deep(suffix, source.deep):
        values = (rows.clip(0, 1) * 65535.0).round().astype(np.uint16)
    else:
        # Cut off, not rounded, as in ComfyUI's Save Image: the files hold the same numbers.
        values = np.clip(255.0 * rows, 0, 255).astype(np.uint8)
    name = PICTURE_FORMATS[suffix]
    if name == "tiff":
        _write_tiff(values, source, path)
    elif values.dtype == np.uint16:
        _write_png16(values, source, path)
    else:
        _write_8_bits(values, source, path, name, form.quality)


def _write_8_bits(
    values: np.ndarray, source: Metadata, path: Path, name: str, quality: int
) -> None:
    options = {
        "png": {"compress_level": PNG_LEVEL},
        "jpeg": {"quality": quality, "subsampling": 0},
        "webp": {"quality": quality, "lossless": quality == 100, "exact": True},
    }[name]
    kept = {"icc_profile": source.icc, "exif": source.exif, "dpi": source.dpi}
    if name == "png":
        kept["pnginfo"] = PngImagePlugin.PngInfo()
        for kind, content in _png_texts(source):
            kept["pnginfo"].add(kind, content)
    elif name == "webp":
        kept |= {"exif": _exif_of_webp(source), "xmp": source.xmp}
    else:
        kept |= {"extra": _markers(source), "comment": source.comment.encode()[:MARKER_BYTES]}
        kept["exif"] = source.exif if len(source.exif) <= MARKER_BYTES else b""
    kept = {key: value for key, value in kept.items() if value}
    Image.fromarray(values).save(path, format=name.upper(), **options, **kept)


def too_long(source: Metadata, suffix: str) -> tuple[str, ...]:
    """What a JPEG has no room for, in words; other formats have."""
    if PICTURE_FORMATS[suffix] != "jpeg":
        return ()
    sizes = {"EXIF": len(source.exif), "comment": len(source.comment.encode())}
    sizes |= {name: len(content) for name, _, content in _segments(source)}
    words = {"comment": "cut off"}
    return tuple(
        f"{name} {words.get(name, 'left out')}, which is longer than a JPEG can hold"
        for name, size in sizes.items()
        if size > MARKER_BYTES
    )


def _segments(source: Metadata) -> list[tuple[str, bytes, bytes]]:
    """XMP and IPTC as a JPEG holds them: name, marker and content."""
    found = []
    if source.xmp:
        found.append(("XMP", b"\xff\xe1", XMP_MARKER + source.xmp))
    if source.iptc:
        size = struct.pack(">I", len(source.iptc))
        head = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">H", IPTC_RESOURCE) + bytes(2) + size
        found.append(("IPTC", b"\xff\xed", head + source.iptc + bytes(len(source.iptc) % 2)))
    return found


def _markers(source: Metadata) -> bytes:
    """The segments that are short enough, one after another."""
    return b"".join(
        marker + struct.pack(">H", 2 + len(content)) + content
        for _, marker, content in _segments(source)
        if len(content) <= MARKER_BYTES
    )


def _exif_of_webp(source: Metadata) -> bytes:
    """With what a WebP holds nowhere else."""
    exif = Image.Exif()
    exif.load(source.exif)
    exif.update({tag: as_written(exif[tag]) for tag in exif if tag in KEPT_TAGS})
    exif.update(_resolution(source))
    if source.comment and tiff.DESCRIPTION not in exif:
        exif[tiff.DESCRIPTION] = source.comment.encode()
    return exif.tobytes() if len(exif) else source.exif


def _resolution(source: Metadata) -> dict[int, float]:
    """Tags of TIFF and EXIF."""
    if source.dpi is None:
        return {}
    tags = (tiff.X_RESOLUTION, tiff.Y_RESOLUTION, tiff.RESOLUTION_UNIT)
    return dict(zip(tags, (*source.dpi, 2), strict=True))


def _png_texts(source: Metadata) -> list[tuple[bytes, bytes]]:
    """Chunks of text, XMP among them."""
    texts = list(source.texts)
    keys = {content.split(b"\0", 1)[0] for _, content in texts}
    for key, text in ((XMP_KEY, source.xmp), (COMMENT_KEY, source.comment.encode())):
        if text and key.encode() not in keys:
            texts.append((b"iTXt", key.encode() + bytes(5) + text))  # not compressed, no language
    return texts


def _write_png16(values: np.ndarray, source: Metadata, path: Path) -> None:
    """Pillow writes no PNG of 16 bits and more than one channel."""
    height, width, channels = values.shape
    rows = np.ascontiguousarray(values.astype(">u2")).view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 2  # each row less the one above it
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLORS[channels], 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if source.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(source.icc)))
    if source.dpi:
        per_metre = [round(value * METRE) for value in source.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if source.exif:
        chunks.append((b"eXIf", source.exif.removeprefix(b"Exif\0\0")))
    chunks += _png_texts(source)
    chunks += [(b"IDAT", zlib.compress(filtered.data, PNG_LEVEL)), (b"IEND", b"")]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            file.write(struct.pack(">I", len(data)) + kind + data)
            file.write(struct.pack(">I", zlib.crc32(kind + data)))


def _write_tiff(values: np.ndarray, source: Metadata, path: Path) -> None:
    """One strip, deflated; of 8 or 16 bits, which Pillow writes for grey alone."""
    height, width, channels = values.shape
    differences = values.copy()
    differences[:, 1:] -= values[:, :-1]  # TIFF's horizontal predictor, modulo 2**bits
    strip = zlib.compress(differences.astype(values.dtype.newbyteorder("<")).data, PNG_LEVEL)
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    tags[tiff.WIDTH], tags[tiff.HEIGHT], tags[tiff.ROWS] = width, height, height
    tags[tiff.BITS] = (8 * values.itemsize,) * channels
    tags[tiff.SAMPLES], tags[tiff.PLANAR] = channels, 1
    tags[tiff.COMPRESSION], tags[tiff.PREDICTOR] = DEFLATE, 2
    tags[tiff.PHOTOMETRIC] = tiff.RGB
    if channels == 4:
        tags[tiff.EXTRA] = UNASSOCIATED_ALPHA
    for tag, content in (
        (tiff.PROFILE, source.icc), (tiff.XMP, source.xmp), (tiff.IPTC, source.iptc)
    ):  # fmt: skip
        if content:
            tags.tagtype[tag] = BYTE if tag == tiff.XMP else UNDEFINED
            tags[tag] = content
    for tag, value in _resolution(source).items():
        tags[tag] = value
    said = Image.Exif()
    said.load(source.exif)
    texts = {tag: as_written(said[tag]) for tag in KEPT_TAGS if isinstance(said.get(tag), str)}
    for tag, text in {tiff.DESCRIPTION: source.comment.encode(), **texts}.items():
        if text:
            tags[tag] = text
    for group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if inner := said.get_ifd(group):
            tags.tagtype[group] = LONG
            tags[group] = inner
    tags[tiff.OFFSETS], tags[tiff.COUNTS] = 0, len(strip)  # counted from the end of the tags
    with path.open("wb") as file:
        tags.save(file)
        file.write(strip)
