"""What the nodes of NSARM do, drawn: its model does not come with the pack, so nothing is restored.

Numbers and sides are those of the released model. A square is a map of tokens; its side grows with
the tokens along it.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL.Image import Image

from tools.generate.illustrations.board import Board, blocky, scene
from tools.generate.illustrations.panels import ACCENT, INK, PAPER, QUIET

TOGETHER = (1, 2, 4, 6, 8, 12, 16)  # tokens a side that the map network gives
DRAWN = (20, 24, 32, 40, 48, 64)  # those that are sampled
MEMORY = {"bf16": (15.6, 4.1), "fp8": (8.0, 4.1)}  # GiB: transformer, a tile in the making
CARDS = (12, 16, 24)  # GB of memory
GIB = 1.0737  # GB


def load_model() -> Image:
    """What a card must hold, model and a tile, and what cards have."""
    board, left, gigabyte = Board(220), 110, 26.0
    for k, (dtype, parts) in enumerate(MEMORY.items()):
        top, at = 60 + k * 76, float(left)
        board.text(left / 2, top + 24, dtype)
        for part, fill in zip(parts, (QUIET, ACCENT), strict=True):
            wide = part * GIB * gigabyte
            board.box(at, top, wide, 48, fill)
            board.text(at + wide / 2, top + 24, f"{part * GIB:.1f}", fill=INK)
            at += wide
    for card in CARDS:
        x = left + card * gigabyte
        board.line((x, 44), (x, 200))
        board.text(x, 24, f"{card}")
    return board.finished()


def upscale() -> Image:
    """A small picture, seven scales at once, six more one by one, a large picture."""
    board, floor = Board(250), 225
    board.paste(blocky(32), 20, 95, 100)
    board.arrow(130, 162, 150)
    left = 176.0
    for tokens in (*TOGETHER, *DRAWN):
        side = 5 + 0.85 * tokens
        board.box(left, floor - 40 - side, side, side, QUIET if tokens in TOGETHER else ACCENT)
        left += side + (14 if tokens == TOGETHER[-1] else 4)
    board.text(222, floor - 20, str(len(TOGETHER)), fill=QUIET)
    board.text(408, floor - 20, f"+ {len(DRAWN)}", fill=ACCENT)
    board.arrow(left + 2, left + 34, 150)
    board.paste(scene(400), left + 44, 25, 200)
    return board.finished()


def prefix() -> Image:
    """One tile of a picture, and the seven maps that it gives together."""
    board = Board(250)
    board.paste(blocky(48), 20, 25, 200)
    for x, y in ((22, 27), (102, 27), (22, 107), (102, 107)):
        board.box(x, y, 116, 116, outline=PAPER)
    board.box(102, 27, 116, 116, outline=ACCENT)
    left = 290.0
    for tokens in TOGETHER:
        side = 14 + 6.0 * tokens
        board.line((220, 85), (left + side / 2, 190 - side), fill=ACCENT, width=1.5)
        left += side + 6
    left = 290.0
    for tokens in TOGETHER:
        side = 14 + 6.0 * tokens
        board.bits(left, 200 - side, side, tokens, seed=tokens)
        board.text(left + side / 2, 224, str(tokens), 28)
        left += side + 6
    return board.finished()


def sample() -> Image:
    """Six maps of bits; a bit that is certain is fixed, the others are drawn."""
    board, left, floor = Board(340), 20.0, 190
    board.box(left, floor - 34, 34, 34, outline=QUIET)
    board.text(left + 17, floor + 24, str(TOGETHER[-1]), 28, QUIET)
    left += 46
    for tokens in DRAWN:
        side = tokens * 2.7
        board.bits(left, floor - side, side, tokens, seed=tokens)
        board.text(left + side / 2, floor + 24, str(tokens), 28)
        left += side + 10
    start, wide, top, certain = 60, 680, 248, 0.97
    fixed = start + wide * (certain - 0.5) * 2
    board.box(start, top, fixed - start, 36, ACCENT)
    board.box(fixed, top, start + wide - fixed, 36, PAPER)
    for share, x in ((0.5, start + 20), (certain, fixed - 20), (1, start + wide)):
        board.text(x, top + 62, f"{share:g}")
    for k in range(5):
        die(board, start + 50 + k * 130, top + 5, k + 1)
    return board.finished()


def die(board: Board, left: float, top: float, pips: int) -> None:
    """What is drawn at random."""
    board.box(left, top, 26, 26, PAPER)
    spots = {1: "e", 2: "ai", 3: "aei", 4: "acgi", 5: "acegi"}[pips]
    for spot in spots:
        row, column = divmod("abcdefghi".index(spot), 3)
        board.box(left + 4 + column * 7, top + 4 + row * 7, 4, 4, INK)


def decode() -> Image:
    """Bits in, a picture out."""
    board = Board(300)
    board.bits(30, 30, 240, 32)
    board.arrow(300, 350, 150)
    for k in range(3):
        height = 90 + 50 * k
        board.box(372 + k * 30, 150 - height / 2, 22, height, QUIET)
    board.arrow(474, 520, 150)
    board.paste(scene(480), 530, 30, 240)
    return board.finished()


def encode_text() -> Image:
    """A prompt, its features, and where they go: to the sampler, or to a file first."""
    board = Board(260)
    board.box(30, 50, 200, 120, PAPER)
    board.shape((60, 168), (60, 205), (100, 168), fill=PAPER)
    for k, long in enumerate((160, 130, 150, 90)):
        board.line((50, 75 + k * 23), (50 + long, 75 + k * 23), fill=INK, width=5)
    board.arrow(250, 295, 110)
    state = 7
    for column in range(9):
        for place in range(10):
            state = (state * 1103515245 + 12345) % 2**31
            tone = 60 + (state >> 16) % 180
            cell = 310 + column * 18, 20 + place * 18
            board.box(*cell, 16, 16, fill=f"#{tone:02x}{tone * 3 // 4:02x}{tone // 3:02x}")
    board.arrow(490, 535, 60)
    for k, side in enumerate((20, 32, 48, 70)):
        board.box(550 + (0, 26, 64, 118)[k], 95 - side, side, side, ACCENT)
    board.arrow(490, 535, 175)
    board.box(560, 125, 78, 100, outline=PAPER)
    board.line((614, 127), (614, 150), (637, 150))
    for k in range(3):
        board.line((574, 165 + k * 18), (624, 165 + k * 18), fill=QUIET, width=4)
    board.line((650, 175), (703, 175), (703, 120), fill=ACCENT, width=5)
    board.shape((693, 122), (703, 106), (713, 122), fill=ACCENT)
    return board.finished()


PAGES: dict[str, Callable[[], Image]] = {
    "NSARM_LoadModel": load_model,
    "NSARM_Upscale": upscale,
    "NSARM_Prefix": prefix,
    "NSARM_Sample": sample,
    "NSARM_Decode": decode,
    "NSARM_EncodeText": encode_text,
}
