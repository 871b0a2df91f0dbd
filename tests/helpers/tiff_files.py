"""TIFF files of every layout, which neither Pillow nor FFmpeg writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np


def save_tiff(
    path: Path,
    values: np.ndarray,
    *,
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    planar: bool = False,
    deflate: bool = False,
    predictor: bool = False,
    order: str = "<",
    big: bool = False,
    extra: Sequence[int] = (),
    tags: Mapping[int, Sequence[int] | bytes] | None = None,
) -> Path:
    """values: (H, W, C), of any type; tile: height, width; tags: beside those, or in their place"""
    height, width, channels = values.shape
    stored = values.astype(values.dtype.newbyteorder(order))
    pieces = []
    for piece in _pieces(stored, tile, rows or height, planar):
        native = piece.astype(values.dtype)
        if predictor:
            native[:, 1:] -= native[:, :-1].copy()
        packed = native.astype(stored.dtype).tobytes()
        pieces.append(zlib.compress(packed) if deflate else packed)
    places, counts = (324, 325) if tile else (273, 279)
    start = 16 if big else 8
    sizes = [len(piece) + len(piece) % 2 for piece in pieces]
    offsets = [start + sum(sizes[:number]) for number in range(len(pieces))]
    found: dict[int, Sequence[int] | bytes] = {
        256: [width], 257: [height], 258: [8 * values.itemsize] * channels,
        259: [8 if deflate else 1], 262: [2 if channels > 2 else 1], 277: [channels],
        284: [1 + planar], 317: [1 + predictor],
        places: offsets, counts: [len(piece) for piece in pieces],
    }  # fmt: skip
    found |= {322: [tile[1]], 323: [tile[0]]} if tile else {278: [rows or height]}
    found |= {338: extra} if extra else {}
    content = b"".join(piece + bytes(len(piece) % 2) for piece in pieces)
    return _write(path, content, [found | dict(tags or {})], order, big)


def save_pages(path: Path, *pages: tuple[np.ndarray, Mapping[int, Sequence[int]]]) -> Path:
    """Several pictures (H, W, 3) uint8 in one file, each with tags of its own."""
    content, found = b"", []
    for values, tags in pages:
        height, width, _ = values.shape
        one = {
            256: [width], 257: [height], 258: [8, 8, 8], 259: [1], 262: [2], 277: [3],
            273: [8 + len(content)], 278: [height], 279: [values.nbytes],
        }  # fmt: skip
        found.append(one | dict(tags))
        content += values.tobytes() + bytes(values.nbytes % 2)
    return _write(path, content, found, "<", False)


def _pieces(
    values: np.ndarray, tile: tuple[int, int] | None, rows: int, planar: bool
) -> Iterator[np.ndarray]:
    planes = [values[..., k : k + 1] for k in range(values.shape[2])] if planar else [values]
    for plane in planes:
        height, width, channels = plane.shape
        for top in range(0, height, tile[0] if tile else rows):
            if not tile:
                yield plane[top : top + rows]
                continue
            for left in range(0, width, tile[1]):
                part = plane[top : top + tile[0], left : left + tile[1]]
                whole = np.zeros((*tile, channels), plane.dtype)
                whole[: part.shape[0], : part.shape[1]] = part
                yield whole


def _write(path: Path, content: bytes, pages: list[dict], order: str, big: bool) -> Path:
    kind, form, size, count = (16, "Q", 8, "Q") if big else (4, "I", 4, "H")
    start = (16 if big else 8) + len(content)
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, start) if big else struct.pack(
        f"{order}HI", 42, start
    )  # fmt: skip
    for number, tags in enumerate(pages):
        length = struct.calcsize(f"={count}") + len(tags) * (20 if big else 12) + size
        entries, behind = struct.pack(order + count, len(tags)), b""
        for tag, values in sorted(tags.items()):
            if isinstance(values, bytes):
                packed, of = values, 7
            else:
                packed, of = struct.pack(f"{order}{len(values)}{form}", *values), kind
            entries += struct.pack(f"{order}HH{form}", tag, of, len(values))
            if len(packed) > size:
                entries += struct.pack(order + form, start + length + len(behind))
                behind += packed
            else:
                entries += packed.ljust(size, b"\0")
        behind += bytes(len(behind) % 2)
        last = number == len(pages) - 1
        following = 0 if last else start + length + len(behind)
        content += entries + struct.pack(order + form, following) + behind
        start = following
    path.write_bytes(mark + head + content)
    return path
