"""Tar files of pictures, as WebDataset lays them out."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(color=(0, 0, 0), side=16, kind="PNG", width=None):
    """A picture of one colour as a file's bytes."""
    file = io.BytesIO()
    Image.new("RGB", (width or side, side), tuple(color)).save(file, kind)
    return file.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_shards(
    folder: Path, counts: list[int], side: int = 16, first: int = 0, labels: bool = True
) -> list[Path]:
    """Tar files of numbered pictures: a picture's colour and its class are its number."""
    paths, number = [], first
    for shard, count in enumerate(counts):
        members = []
        for _ in range(count):
            key = f"{number:06d}"
            members.append((f"{key}.png", encoded((number % 256, number // 256, 7), side)))
            if labels:
                members.append((f"{key}.cls", str(number).encode()))
            number += 1
        paths.append(write_tar(folder / f"{shard:03d}.tar", members))
    return paths


def json_of(**values):
    return json.dumps(values).encode()


def numbers_of(pictures):
    """Numbers of pictures of write_shards: (B, 3, S, S) in [0, 1] -> list."""
    colors = np.rint(pictures[:, :2, 0, 0].numpy() * 255).astype(int)
    return (colors[:, 0] + 256 * colors[:, 1]).tolist()
