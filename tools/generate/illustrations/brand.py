"""Icon and banner of the pack in ComfyUI's registry: one scene, in more and more squares."""

from __future__ import annotations

from PIL import Image, ImageDraw

from tools.generate.illustrations import panels
from tools.generate.illustrations.board import blocky, scene

NAME = "VARSR"
ICON, BANNER = 400, (1260, 540)  # pixels; the registry asks for a square and for 21:9
CORNER, RIM = 72, 6


def icon() -> Image.Image:
    """Three maps, each over the corner of the one before."""
    whole = Image.new("RGB", (ICON, ICON), panels.INK)
    for at, cells, side in ((34, 2, 124), (76, 5, 190), (132, 16, 240)):
        whole.paste(panels.PAPER, (at - RIM, at - RIM, at + side + RIM, at + side + RIM))
        whole.paste(blocky(cells, side), (at, at))
    mask = Image.new("L", (ICON * 2, ICON * 2), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, ICON * 2, ICON * 2), CORNER * 2, fill=255)
    rounded = Image.new("RGBA", (ICON, ICON), panels.CLEAR)
    rounded.paste(whole, (0, 0), mask.resize((ICON, ICON)))
    return rounded


def banner() -> Image.Image:
    """The name over a row of maps that grow, the last one a picture."""
    whole = Image.new("RGB", BANNER, panels.INK)
    ImageDraw.Draw(whole).text((60, 150), NAME, panels.PAPER, panels.font(150), anchor="lm")
    left, floor = 60, BANNER[1] - 60
    for cells in (1, 2, 3, 5, 8, 12, 16):
        side = cells * (round(40 + 11.5 * cells) // cells)
        whole.paste(blocky(cells, side), (left, floor - side))
        left += side + 14
    last = BANNER[0] - 60 - left
    whole.paste(scene(last), (left, floor - last))
    return whole
