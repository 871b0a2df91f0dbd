"""Pictures of several folders side by side, to be looked at.

    python tools/benchmarks contact_sheet SHEET.png [--crop 256] FOLDER...

One row for each name that all folders have, one column a folder. Smaller pictures are enlarged
bicubically to the largest of their row; --crop takes a square from the middle instead of the whole.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

GAP = 4
CAPTION = 14


def cell(picture: Image.Image, size: tuple[int, int], crop: int) -> Image.Image:
    picture = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    if not crop:
        return picture
    left, top = (max(0, side - crop) // 2 for side in size)
    return picture.crop((left, top, left + min(crop, size[0]), top + min(crop, size[1])))


def sheet(folders: list[Path], crop: int) -> Image.Image:
    found = [{path.stem: path for path in folder.iterdir() if path.is_file()} for folder in folders]
    names = sorted(set.intersection(*(set(pictures) for pictures in found)))
    rows = []
    for name in names:
        pictures = [Image.open(pictures[name]) for pictures in found]
        size = max((picture.size for picture in pictures), key=lambda size: size[0] * size[1])
        rows.append([cell(picture, size, crop) for picture in pictures])
    width = sum(max(row[i].width for row in rows) + GAP for i in range(len(folders)))
    whole = Image.new("RGB", (width, CAPTION + sum(row[0].height + GAP for row in rows)), "white")
    top, draw = CAPTION, ImageDraw.Draw(whole)
    for row in rows:
        left = 0
        for picture, folder in zip(row, folders, strict=True):
            draw.text((left, 0), folder.name, "black")
            whole.paste(picture, (left, top))
            left += picture.width + GAP
        top += row[0].height + GAP
    return whole


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--crop", type=int, default=0)


def run(arguments: argparse.Namespace) -> None:
    sheet(arguments.folders, arguments.crop).save(arguments.out)
