"""What thumbnails are drawn with: squares that are read at the 220 pixels of the page's list."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIDE = 512  # pixels
FINER = 2  # drawn so much larger, then shrunk: smooth edges
GROUND, NODE, BAR, WIRE, TEXT, MUTED = (
    "#1d2430",
    "#2f3a4c",
    "#4a5b78",
    "#8fb4ff",
    "#ffffff",
    "#b9c3d4",
)
SIGN = "#ffcf5c"


class Card:
    """A square to draw on, in units of its finished pixels."""

    def __init__(self, ground: str | Picture = GROUND) -> None:
        whole = SIDE * FINER
        self.picture = Image.new(
            "RGB", (whole, whole), ground if isinstance(ground, str) else GROUND
        )
        if not isinstance(ground, str):
            self.picture.paste(
                ground.convert("RGB").resize((whole, whole), Image.Resampling.LANCZOS)
            )
        self.draw = ImageDraw.Draw(self.picture)

    def box(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        fill: str | None = None,
        outline: str | None = None,
        line: float = 4,
        radius: float = 14,
    ) -> None:
        corners = [round(FINER * at) for at in (left, top, left + width, top + height)]
        thickness = round(FINER * line)
        self.draw.rounded_rectangle(corners, FINER * radius, fill, outline, thickness)

    def line(self, *points: tuple[float, float], fill: str = WIRE, width: float = 6) -> None:
        self.draw.line(
            [(FINER * x, FINER * y) for x, y in points], fill, round(FINER * width), "curve"
        )

    def shape(self, *points: tuple[float, float], fill: str) -> None:
        self.draw.polygon([(FINER * x, FINER * y) for x, y in points], fill)

    def circle(self, x: float, y: float, radius: float, fill: str) -> None:
        edges = [FINER * at for at in (x - radius, y - radius, x + radius, y + radius)]
        self.draw.ellipse(edges, fill)

    def text(self, x: float, y: float, words: str, size: float, fill: str = TEXT) -> None:
        """Centred at a place."""
        place = FINER * x, FINER * y
        self.draw.text(place, words, fill, _font(round(FINER * size)), anchor="mm")

    def label(self, x: float, y: float, words: str, size: float = 30) -> None:
        """Centred at a place, on a dark strip of its own."""
        width = _font(round(FINER * size)).getlength(words) / FINER + size
        self.box(x - width / 2, y - 0.75 * size, width, 1.5 * size, fill="#10141b", radius=8)
        self.text(x, y, words, size)

    def node(
        self, left: float, top: float, width: float, height: float, *words: str, size: float = 34
    ) -> None:
        """A box as the page draws nodes, with words in it."""
        self.box(left, top, width, height, fill=NODE, outline=BAR)
        step = height / (len(words) + 1)
        for number, word in enumerate(words):
            shade = MUTED if number else TEXT
            place = left + width / 2, top + step * (number + 1)
            self.text(*place, word, size if number == 0 else 0.75 * size, shade)

    def paste(self, picture: Picture, left: float, top: float, width: float, height: float) -> None:
        size = round(FINER * width), round(FINER * height)
        scaled = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        self.picture.paste(scaled, (round(FINER * left), round(FINER * top)))

    def needs(self, words: str) -> None:
        """At the bottom: what has to be there before it runs."""
        self.box(24, 424, 464, 64, fill=SIGN, radius=32)
        self.text(256, 456, words, 32, "#20242b")

    def finished(self) -> Picture:
        return self.picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def chain(*nodes: Sequence[str], needs: str = "") -> Picture:
    """Nodes one below the other, wired; each has words, the first of them large."""
    card = Card()
    height, gap = (380 - 28 * (len(nodes) - 1)) / len(nodes), 28
    for number, words in enumerate(nodes):
        top = 28 + number * (height + gap)
        if number:
            card.line((256, top - gap), (256, top))
        card.node(76, top, 360, height, *words, size=min(44, 0.4 * height))
    if needs:
        card.needs(needs)
    return card.finished()


def lighthouse(card: Card, left: float, top: float, side: float) -> None:
    """A simple picture: a lighthouse on a rock, evening."""

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * side, top + y * side

    card.box(left, top, side, side, fill="#f2a65a", radius=0)
    card.shape(at(0, 0), at(1, 0), at(1, 0.4), at(0, 0.55), fill="#54608f")
    card.circle(*at(0.26, 0.56), 0.1 * side, "#ffe3a1")
    card.shape(at(0, 0.66), at(1, 0.66), at(1, 1), at(0, 1), fill="#2c4a6e")
    card.shape(at(0.42, 1), at(0.56, 0.7), at(0.9, 0.7), at(1, 0.82), at(1, 1), fill="#2a2a33")
    card.shape(at(0.62, 0.74), at(0.66, 0.28), at(0.8, 0.28), at(0.84, 0.74), fill="#f5f1e8")
    for low, high in ((0.4, 0.48), (0.56, 0.64)):
        card.shape(at(0.64, low), at(0.82, low), at(0.83, high), at(0.63, high), fill="#c0483f")
    card.shape(at(0.64, 0.28), at(0.82, 0.28), at(0.73, 0.14), fill="#c0483f")
    card.shape(at(0.64, 0.24), at(0, 0.1), at(0, 0.3), fill="#ffe9b0")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
