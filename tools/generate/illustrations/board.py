"""A sheet to draw on, and a simple scene to draw: no photograph, no model."""

from __future__ import annotations

from PIL import Image, ImageDraw

from tools.generate.illustrations import panels
from tools.generate.illustrations.panels import ACCENT, INK, PAPER

DOUBLE = 2  # drawn so much larger, then shrunk: smooth edges


class Board:
    """A dark sheet to draw on; places and lengths are pixels of the finished picture."""

    def __init__(self, height: int, width: int = panels.WIDTH) -> None:
        self.size = width, height
        self.sheet = Image.new("RGB", (width * DOUBLE, height * DOUBLE), INK)
        self.draw = ImageDraw.Draw(self.sheet)

    def box(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        fill: str | None = None,
        outline: str | None = None,
    ) -> None:
        edges = (left, top, left + width, top + height)
        self.draw.rectangle(
            tuple(round(edge * DOUBLE) for edge in edges), fill, outline, width=2 * DOUBLE
        )

    def line(self, *points: tuple[float, float], fill: str = PAPER, width: float = 2) -> None:
        scaled = [(x * DOUBLE, y * DOUBLE) for x, y in points]
        self.draw.line(scaled, fill, round(width * DOUBLE))

    def text(self, x: float, y: float, text: str, size: float = 32, fill: str = PAPER) -> None:
        """In the middle of a place."""
        self.draw.text(
            (x * DOUBLE, y * DOUBLE), text, fill, panels.font(size * DOUBLE), anchor="mm"
        )

    def arrow(self, left: float, right: float, y: float) -> None:
        self.line((left, y), (right - 8, y), fill=ACCENT, width=5)
        self.shape((right - 14, y - 10), (right, y), (right - 14, y + 10), fill=ACCENT)

    def shape(self, *points: tuple[float, float], fill: str) -> None:
        self.draw.polygon([(x * DOUBLE, y * DOUBLE) for x, y in points], fill)

    def paste(self, picture: Image.Image, left: float, top: float, side: float) -> None:
        side = round(side * DOUBLE)
        self.sheet.paste(
            panels.fitted(picture, side, side), (round(left * DOUBLE), round(top * DOUBLE))
        )

    def bits(self, left: float, top: float, side: float, cells: int, seed: int = 1) -> None:
        """A square of ones and zeros, the same for the same seed."""
        cell, state = side / cells, seed
        for k in range(cells * cells):
            state = (state * 1103515245 + 12345) % 2**31
            at = left + k % cells * cell, top + k // cells * cell
            self.box(*at, cell, cell, fill=PAPER if state >> 16 & 1 else "#39465a")

    def finished(self) -> Image.Image:
        return self.sheet.resize(self.size, Image.Resampling.LANCZOS)


def scene(side: int) -> Image.Image:
    """A simple picture: sun, hills and sky."""
    whole = Image.new("RGB", (side * 2, side * 2), "#9cc4dc")
    draw, s = ImageDraw.Draw(whole), side * 2
    draw.ellipse((0.62 * s, 0.14 * s, 0.84 * s, 0.36 * s), ACCENT)
    draw.polygon([(0, 0.75 * s), (0.34 * s, 0.34 * s), (0.66 * s, 0.8 * s), (0, s)], "#4f7f76")
    draw.polygon([(0.3 * s, s), (0.7 * s, 0.5 * s), (s, 0.8 * s), (s, s)], "#35594f")
    draw.polygon([(0, 0.86 * s), (s, 0.74 * s), (s, s), (0, s)], "#243f38")
    return whole.resize((side, side), Image.Resampling.LANCZOS)


def blocky(cells: int, side: int = 512) -> Image.Image:
    """The scene as so many flat squares along each side."""
    return panels.in_squares(scene(512), cells, side)
