"""Restored pictures written to files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin
from torch import Tensor

from ...errors import InputError
from ..output_format import OutputFormat
from .formats import LONGEST_SIDE, PICTURE_FORMATS
from .reading import DecodedPicture

PNG_LEVEL = 4  # of compression, as ComfyUI's Save Image has it
PNG_COLORS = {3: 2, 4: 6}  # channels -> colour type
DEFLATE, RGB, UNASSOCIATED_ALPHA = 8, 2, 2  # values of TIFF's tags
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS = 256, 257, 258, 259, 262, 273
SAMPLES, ROWS, COUNTS, PLANAR, PREDICTOR, EXTRA, PROFILE = 277, 278, 279, 284, 317, 338, 34675
TEXTS = (270, 271, 272, 306, 315, 33432)  # description, make, model, time, artist, copyright


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
    values: np.ndarray, source: DecodedPicture, path: Path, name: str, quality: int
) -> None:
    options = {
        "png": {"compress_level": PNG_LEVEL},
        "jpeg": {"quality": quality, "subsampling": 0},
        "webp": {"quality": quality, "lossless": quality == 100, "exact": True},
    }[name]
    kept = {"icc_profile": source.icc, "exif": source.exif}
    kept = {key: value for key, value in kept.items() if value}
    Image.fromarray(values).save(path, format=name.upper(), **options, **kept)


def _write_png16(values: np.ndarray, source: DecodedPicture, path: Path) -> None:
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
    if source.exif:
        chunks.append((b"eXIf", source.exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.data, PNG_LEVEL)), (b"IEND", b"")]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            file.write(struct.pack(">I", len(data)) + kind + data)
            file.write(struct.pack(">I", zlib.crc32(kind + data)))


def _write_tiff(values: np.ndarray, source: DecodedPicture, path: Path) -> None:
    """One strip, deflated; of 8 or 16 bits, which Pillow writes for grey alone."""
    height, width, channels = values.shape
    differences = values.copy()
    differences[:, 1:] -= values[:, :-1]  # TIFF's horizontal predictor, modulo 2**bits
    strip = zlib.compress(differences.astype(values.dtype.newbyteorder("<")).data, PNG_LEVEL)
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    tags[WIDTH], tags[HEIGHT], tags[ROWS] = width, height, height
    tags[BITS] = (8 * values.itemsize,) * channels
    tags[SAMPLES], tags[PLANAR] = channels, 1
    tags[COMPRESSION], tags[PREDICTOR], tags[PHOTOMETRIC] = DEFLATE, 2, RGB
    if channels == 4:
        tags[EXTRA] = UNASSOCIATED_ALPHA
    if source.icc:
        tags.tagtype[PROFILE] = 7  # bytes
        tags[PROFILE] = source.icc
    for tag, text in _texts(source.exif).items():
        tags[tag] = text
    tags[OFFSETS], tags[COUNTS] = 0, len(strip)  # counted from the end of the tags
    with path.open("wb") as file:
        tags.save(file)
        file.write(strip)


def _texts(exif: bytes) -> dict[int, str]:
    """What a TIFF says in tags of its own."""
    if not exif:
        return {}
    read = Image.Exif()
    read.load(exif)
    return {tag: read[tag] for tag in TEXTS if isinstance(read.get(tag), str)}
