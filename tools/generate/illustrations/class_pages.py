"""What VARSR Class to Image does, drawn: its model does not come with the pack."""

from __future__ import annotations

from collections.abc import Callable

from PIL.Image import Image

from tools.generate.illustrations.board import Board, scene
from tools.generate.illustrations.panels import ACCENT, INK, PAPER, QUIET

SIDES = (1, 2, 3, 4, 6, 9, 12, 16, 20, 24, 28, 32)


def class_to_image() -> Image:
    """A number among many, twelve maps that grow out of it, a picture."""
    board, floor = Board(280), 190
    for k in range(28):
        board.box(20 + k % 4 * 30, 35 + k // 4 * 30, 24, 24, QUIET)
    board.box(80, 125, 24, 24, ACCENT)
    board.text(92, 137, "13", 17, INK)
    board.arrow(146, 186, 137)
    left = 196.0
    for side in SIDES:
        wide = 4 + side * 1.3
        board.box(left, floor - wide, wide, wide, ACCENT if side == SIDES[-1] else PAPER)
        left += wide + 5
    board.text(200, floor + 26, "1", 28)
    board.text(left - 35, floor + 26, "32", 28)
    board.arrow(left + 4, 574, 137)
    board.paste(scene(400), 584, 37, 200)
    return board.finished()


PAGES: dict[str, Callable[[], Image]] = {"VARSR_ClassToImage": class_to_image}
