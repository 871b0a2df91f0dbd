"""What K2N's nodes do, drawn: the model does not come with the pack, so nothing is restored.

Sides are those of the released model. A square is a map of tokens; its side grows with the tokens
along it.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL.Image import Image

from tools.generate.illustrations.board import Board, blocky, scene
from tools.generate.illustrations.panels import ACCENT, PAPER, QUIET

GIVEN = (1, 2, 3)  # tokens a side that K2N predicts
SAMPLED = (4, 6, 9, 13, 18, 24, 32)  # those that VARSR adds


def load_k2n() -> Image:
    """A small picture, three marked maps of it, the others that VARSR makes, a large picture."""
    board, floor = Board(250), 205
    board.paste(blocky(24), 20, 95, 100)
    board.arrow(130, 162, 150)
    left = 180.0
    for tokens in (*GIVEN, *SAMPLED):
        side = 14 + 2 * tokens
        given = tokens in GIVEN
        board.box(left, floor - side, side, side, ACCENT if given else QUIET)
        left += side + (20 if tokens == GIVEN[-1] else 5)
    board.text(215, floor + 24, "K2N", 24, fill=ACCENT)
    board.text(430, floor + 24, "VARSR", 24, fill=QUIET)
    return board.finished()


def predict_coarse() -> Image:
    """The picture in ever more squares: three are predicted, then VARSR goes on."""
    board, side, top = Board(220), 104, 58
    board.paste(blocky(24), 12, top, side)
    board.arrow(124, 156, top + side / 2)
    left = 164.0
    for cells in GIVEN:
        board.paste(blocky(cells), left, top, side)
        board.box(left, top, side, side, outline=ACCENT)
        board.text(left + side / 2, top + side + 26, f"{cells}", 24, fill=ACCENT)
        left += side + 10
    board.arrow(left, left + 28, top + side / 2)
    board.paste(scene(400), left + 36, top, side)
    board.box(left + 36, top, side, side, outline=PAPER)
    return board.finished()


PAGES: dict[str, Callable[[], Image]] = {
    "VARSR_LoadK2N": load_k2n,
    "VARSR_PredictCoarse": predict_coarse,
}
