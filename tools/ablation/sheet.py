"""One picture of all variants, to be looked at: a block of labelled cells for each input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

GAP, CAPTION, FONT_SIZE = 6, 34, 13
COLUMNS = 4


@dataclass(frozen=True)
class Cell:
    label: str
    figures: str
    picture: Image.Image


def cropped(picture: Image.Image, side: int) -> Image.Image:
    """A square from the middle; the whole picture for 0, or where it is no larger."""
    width, height = picture.size
    across, down = (min(side, length) if side else length for length in (width, height))
    left, top = (width - across) // 2, (height - down) // 2
    return picture.crop((left, top, left + across, top + down))


def sheet(blocks: Sequence[Sequence[Cell]], side: int) -> Image.Image:
    """blocks: cells of one input each; side: of the square that is shown, 0 for all"""
    drawn = [_block([(cell, cropped(cell.picture, side)) for cell in cells]) for cells in blocks]
    width = max(block.width for block in drawn)
    whole = Image.new("RGB", (width, sum(block.height + GAP for block in drawn)), "white")
    top = 0
    for block in drawn:
        whole.paste(block, (0, top))
        top += block.height + GAP
    return whole


def _block(cells: Sequence[tuple[Cell, Image.Image]]) -> Image.Image:
    width = max(picture.width for _, picture in cells) + GAP
    height = max(picture.height for _, picture in cells) + CAPTION + GAP
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    block = Image.new("RGB", (columns * width, rows * height), "white")
    draw, font = ImageDraw.Draw(block), ImageFont.load_default(FONT_SIZE)
    for number, (cell, picture) in enumerate(cells):
        left, top = number % columns * width, number // columns * height
        draw.text((left + 2, top + 1), cell.label, "black", font)
        draw.text((left + 2, top + CAPTION // 2), cell.figures, "#555", font)
        block.paste(picture, (left, top + CAPTION))
    return block
