"""Cuts photographs into training crops: non-overlapping, detailed, with a manifest.

    python tools/nano/training_set.py OUT [--folders DIR ...] [--debian PACKAGE ...]

For example, from Debian's freely licensed packages (fetched by name, unpacked, not installed):

    python tools/nano/training_set.py crops --debian lomiri-wallpapers-16.04 \\
        lomiri-wallpapers-20.04 gnome-backgrounds palapeli-data xplanet-images ufoai-textures

manifest.tsv names picture and source of every crop; the licences are those the sources state
(a package's are in its usr/share/doc/*/copyright, copied beside the manifest). Photographs
without fine detail at full size are halved first.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from varsr_core.training.data.pictures import find_pictures, load_picture

LUMA = np.array([0.299, 0.587, 0.114])
BLOCK = 4  # pixels; detail is what differs from the mean of such a block
JPEG_QUALITY = 95


def detail(crop: np.ndarray) -> float:
    """Mean difference of luma from its block's mean, in 8-bit levels; 3 and more is real detail."""
    luma = crop @ LUMA
    height, width = (side // BLOCK * BLOCK for side in luma.shape)
    blocks = luma[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return float(np.abs(blocks - blocks.mean(axis=(1, 3), keepdims=True)).mean())


def crops(picture: np.ndarray, size: int) -> list[np.ndarray]:
    """All whole squares of a grid that is centred on the picture."""
    height, width = picture.shape[:2]
    rows, columns = height // size, width // size
    top, left = (height - rows * size) // 2, (width - columns * size) // 2
    return [
        picture[top + r * size :, left + c * size :][:size, :size]
        for r in range(rows)
        for c in range(columns)
    ]


def best_crops(
    picture: np.ndarray, size: int, least: float, most: int
) -> tuple[str, list[np.ndarray]]:
    """The most detailed crops at full size, or, where none has detail, at half size."""
    kept: list[np.ndarray] = []
    for name, factor in (("full", 1), ("half", 2)):
        height, width = (side // factor for side in picture.shape[:2])
        if min(height, width) < size:
            continue
        image = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
        ranked = sorted(crops(np.array(image), size), key=detail, reverse=True)
        kept = [crop for crop in ranked[:most] if detail(crop) >= least]
        if kept:
            return name, kept
    return "none", kept


def unpack_debian(package: str, folder: Path) -> Path:
    """Downloads a package by name and unpacks it below `folder`, without installing it."""
    target = folder / package
    target.mkdir()
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
    archive = next(folder.glob(f"{package}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", archive, target], check=True)
    return target


def sources(folders: list[Path], packages: list[str], scratch: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of every source of pictures."""
    for folder in folders:
        yield folder.name, folder
    for package in packages:
        yield f"debian:{package}", unpack_debian(package, scratch)


def write_set(
    out: Path,
    folders: list[Path],
    packages: list[str],
    *,
    size: int = 512,
    least: float = 3.0,
    most: int = 16,
) -> int:
    """Writes crops as JPEG without chroma subsampling, and manifest.tsv; returns how many."""
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory() as scratch, (out / "manifest.tsv").open("w") as manifest:
        table = csv.writer(manifest, delimiter="\t")
        table.writerow(("file", "picture", "source", "size", "detail"))
        for source, folder in sources(folders, packages, Path(scratch)):
            for path in find_pictures([folder]):
                try:
                    picture = load_picture(path)
                except Exception as error:  # damaged or deep pictures are no loss
                    print(f"{path.name}: {error}")
                    continue
                scale, kept = best_crops(picture, size, least, most)
                for crop in kept:
                    name = f"{count:05d}.jpg"
                    Image.fromarray(crop).save(out / name, quality=JPEG_QUALITY, subsampling=0)
                    table.writerow((name, path.name, source, scale, f"{detail(crop):.2f}"))
                    count += 1
            for licence in folder.glob("usr/share/doc/*/copyright"):
                shutil.copy(licence, out / f"{licence.parent.name}.copyright")
    return count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--folders", type=Path, nargs="*", default=[])
    parser.add_argument("--debian", nargs="*", default=[], metavar="PACKAGE")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--detail", type=float, default=3.0, help="least; default: %(default)s")
    parser.add_argument("--most", type=int, default=16, help="crops of a picture; %(default)s")
    arguments = parser.parse_args()
    count = write_set(
        arguments.out,
        arguments.folders,
        arguments.debian,
        size=arguments.size,
        least=arguments.detail,
        most=arguments.most,
    )
    print(f"{count} crops in {arguments.out}")


if __name__ == "__main__":
    main()
