"""TIFF files: which page is the picture, and all bits of pixels of which Pillow keeps only 8."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2

from ...errors import InputError
from ..optional import import_av

BIG = 43  # the number that BigTIFF has where TIFF has 42
PAGE_KIND, OLD_PAGE_KIND = 254, 255
REDUCED_OR_MASK, OLD_REDUCED = 0b101, 2  # pages that belong to another one
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
OFFSETS, ORIENTATION, SAMPLES, ROWS, COUNTS, PLANAR = 273, 274, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 317, 322, 323, 324, 325
EXTRA, SAMPLE_FORMAT = 338, 339
DESCRIPTION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 270, 282, 283, 296
XMP, IPTC, PROFILE = 700, 33723, 34675
UNSPECIFIED, PREMULTIPLIED = 0, 1  # meanings of a sample beyond the colours
INTEGER, FLOAT, UNDEFINED = 1, 3, 4  # formats of samples
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5  # photometric interpretations
PHOTOMETRICS = {3: "a palette", 4: "a mask", 6: "YCbCr", 8: "CIELAB", 9: "ICC LAB", 10: "ITU LAB"}
MOST_PACKED = 2000  # bytes that one can stand for; of deflate 1032, of LZW some more
UNPACKED = {1: "no", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits"}  # by FFmpeg


@dataclass(frozen=True)
class TiffPage:
    """The picture of a TIFF file.

    number: of the page in the file
    tags:   what the file says of it
    order:  of its bytes, as `struct` has it
    """

    number: int
    tags: ImageFileDirectory_v2
    order: str

    def all(self, tag: int) -> tuple[int, ...]:
        """Values of a tag of whole numbers; none where it is missing."""
        found = self.tags.get(tag, ())
        return found if isinstance(found, tuple) else (found,)

    def one(self, tag: int, default: int) -> int:
        return int((self.all(tag) or (default,))[0])

    def raw(self, tag: int) -> bytes:
        """Of a tag that holds bytes, whatever type the program that wrote it gave it."""
        return self.tags._tagdata.get(tag, b"")  # Pillow's values of some types are incomplete

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.one(HEIGHT, 0), self.one(WIDTH, 0)

    @property
    def deep(self) -> bool:
        """Whether it has 16 bits per sample that count; CMYK is converted in 8, as ComfyUI does."""
        return max(self.all(BITS), default=1) == 16 and self.one(PHOTOMETRIC, RGB) != CMYK

    def check(self) -> None:
        """Refuses what neither Pillow nor `read_deep` reads rightly. Raises InputError."""
        formats = set(self.all(SAMPLE_FORMAT)) or {INTEGER}
        if FLOAT in formats:
            raise InputError(
                "pixels that are floating-point numbers are not read, for nothing says which of "
                "them are black and white; save it with 8 or 16 bits per channel"
            )
        bits = max(self.all(BITS), default=1)
        if bits > 8 and bits != 16:
            raise InputError(f"pixels of {bits} bits are not read; convert them to 8 or 16 bits")
        if not self.deep:
            return
        refusal = ""
        if not formats <= {INTEGER, UNDEFINED}:
            refusal = "samples that are not unsigned"
        elif set(self.all(BITS)) != {16}:
            refusal = f"samples of different sizes ({', '.join(map(str, self.all(BITS)))} bits)"
        elif (said := self.one(PHOTOMETRIC, RGB)) not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
            refusal = f"colours as {PHOTOMETRICS.get(said, f'number {said}')}"
        elif (said := self.one(COMPRESSION, 1)) not in UNPACKED:
            refusal = f"compression {said}"
        elif self.one(PREDICTOR, 1) not in (1, 2):
            refusal = f"predictor {self.one(PREDICTOR, 1)}"
        elif self.one(SAMPLES, 1) < self.colors:
            refusal = f"{self.one(SAMPLES, 1)} channels"
        if refusal:
            raise InputError(
                f"16 bits of a TIFF with {refusal} cannot be read; save it as PNG, or as TIFF in "
                "RGB or grey with LZW, deflate or no compression"
            )

    @property
    def colors(self) -> int:
        """Channels without those beyond the colours."""
        return 3 if self.one(PHOTOMETRIC, RGB) == RGB else 1


def tiff_page(path: Path) -> TiffPage | None:
    """The page that is the picture; None for what is no TIFF.

    Raises InputError for a file of several pictures; reduced copies and masks of one are none.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if not head.startswith(tuple(PREFIXES)):
            return None
        order, big = "<" if head.startswith(b"II") else ">", BIG in head[2:4]
        kind, start = ("Q", file.read(8)) if big else ("I", head[4:])
        (offset,) = struct.unpack(order + kind, start)
        pages, seen = [], set()
        while offset and offset not in seen:
            seen.add(offset)
            file.seek(offset)
            tags = ImageFileDirectory_v2((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
            tags._bigtiff = big  # Pillow's way to find out overlooks the big-endian ones
            tags.load(file)
            pages.append(TiffPage(len(pages), tags, order))
            offset = tags.next
    whole = [
        page
        for page in pages
        if not page.one(PAGE_KIND, 0) & REDUCED_OR_MASK
        and page.one(OLD_PAGE_KIND, 0) != OLD_REDUCED
    ]
    pages = whole or pages
    if len(pages) > 1:
        raise InputError(
            f"the file holds {len(pages)} pictures; only single ones are restored, split it"
        )
    return pages[0]


def read_deep(path: Path, page: TiffPage) -> np.ndarray:
    """(H, W, C) float32 in [0, 1] of a page of 16 bits, C 1, 3 or 4, not yet upright."""
    height, width = page.sides
    samples, colors = page.one(SAMPLES, 1), page.colors
    separate = page.one(PLANAR, 1) == 2
    planes = list(_planes(path, page, 1 if separate else samples, samples if separate else 1))
    values = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    del planes
    pixels = values[:height, :width, : colors + 1].astype(np.float32) / 65535.0
    if page.one(PHOTOMETRIC, RGB) == WHITE_IS_ZERO:
        pixels[..., :1] = 1 - pixels[..., :1]
    # Without a word on the sample beyond the colours it is alpha, as for Pillow; there it is of RGB
    kind = (page.all(EXTRA) or (2 if colors == 3 else UNSPECIFIED,))[0]
    if samples == colors or kind == UNSPECIFIED:
        return pixels[..., :colors]
    if kind == PREMULTIPLIED:
        alpha = pixels[..., colors:]
        pixels[..., :colors] = np.divide(
            pixels[..., :colors], alpha, out=np.zeros_like(pixels[..., :colors]), where=alpha > 0
        ).clip(0, 1)
    return pixels if colors == 3 else pixels[..., [0, 0, 0, 1]]


def _planes(path: Path, page: TiffPage, samples: int, planes: int) -> Iterator[np.ndarray]:
    """(H or more, W or more, samples) uint16 of each plane.

    FFmpeg reads no tiles, nor two channels, nor BigTIFF, and says so of none but the last: it is
    given the compressed pieces alone, as strips of a grey picture that is as wide as their rows.
    """
    data = bytearray(path.read_bytes())
    length, (height, width) = len(data), page.sides
    tiled = bool(page.all(TILE_WIDTH))
    rows = page.one(TILE_HEIGHT, 0) if tiled else min(page.one(ROWS, height), height)
    columns = page.one(TILE_WIDTH, 0) if tiled else width
    if min(rows, columns, height, width) < 1:
        raise InputError("a side of the picture has no pixels; save it again")
    down, across = -(-height // rows), -(-width // columns)
    pieces = down * across
    offsets = page.all(TILE_OFFSETS if tiled else OFFSETS)
    counts = page.all(TILE_COUNTS if tiled else COUNTS)
    if len(offsets) == pieces * planes and not (counts or tiled) and page.one(COMPRESSION, 1) == 1:
        counts = tuple(2 * columns * samples * min(rows, height - n * rows) for n in range(down))
        counts *= planes
    if not len(offsets) == len(counts) == pieces * planes:
        raise InputError(f"it has {len(offsets)} pieces and needs {pieces * planes}; copy it again")
    for offset, count in zip(offsets, counts, strict=True):
        if offset + count > length or not count:
            raise InputError("the file is damaged or truncated: pieces of it are missing")
    if 2 * rows * columns * samples * len(counts) > MOST_PACKED * sum(counts):
        raise InputError("the file is damaged: it holds less than the pixels that it speaks of")
    for plane in range(planes):
        part = slice(plane * pieces, (plane + 1) * pieces)
        stacked = rows * pieces if tiled else height
        del data[length:]
        _give_tags(
            data,
            page.order,
            {
                WIDTH: (columns * samples,), HEIGHT: (stacked,), BITS: (16,),
                COMPRESSION: (page.one(COMPRESSION, 1),), PHOTOMETRIC: (BLACK_IS_ZERO,),
                FILL_ORDER: (page.one(FILL_ORDER, 1),), OFFSETS: offsets[part], SAMPLES: (1,),
                ROWS: (rows,), COUNTS: counts[part],
            },
        )  # fmt: skip
        values = _unpacked(data).reshape(stacked, columns, samples)
        if page.one(PREDICTOR, 1) == 2:  # each pixel less the one before it
            np.cumsum(values, axis=1, dtype=np.uint16, out=values)
        if tiled:
            values = values.reshape(down, across, rows, columns, samples).swapaxes(1, 2)
            values = values.reshape(down * rows, across * columns, samples)
        yield values


def _give_tags(data: bytearray, order: str, tags: dict[int, tuple[int, ...]]) -> None:
    """Makes a plain TIFF of the bytes of one, whose only page has these tags."""
    data += b"\0" * (len(data) % 2)
    start = len(data)
    values = start + 2 + 12 * len(tags) + 4
    entries, behind = b"", b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, behind = struct.pack(f"{order}I", values + len(behind)), behind + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    data += struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + behind
    data[:8] = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)


def _unpacked(data: bytearray) -> np.ndarray:
    """uint16 of a TIFF of one channel of 16 bits."""
    av = import_av("pictures with 16 bits per channel")
    decoder = av.CodecContext.create("tiff", "r")
    decoder.options = {"err_detect": "explode"}  # else what it cannot unpack is black
    try:
        (frame,) = decoder.decode(av.Packet(data))
    except av.error.FFmpegError as error:
        raise InputError(
            f"the file is damaged, or of a kind that is not read ({error.strerror}); save it as "
            "PNG, or as TIFF with LZW, deflate or no compression"
        ) from None
    return frame.to_ndarray(format="gray16le")
