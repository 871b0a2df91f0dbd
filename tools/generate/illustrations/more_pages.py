"""Nodes beside the stages: for results, for other nodes, for films and files."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from tools.generate.illustrations import panels
from tools.generate.illustrations.board import Board
from tools.generate.illustrations.flow import Flow
from tools.generate.illustrations.panels import ACCENT, INK, QUIET
from tools.generate.illustrations.varsr_pages import photograph

FIDELITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RELEASED = (13.7, 1.4)  # GB, of the two files as they are handed out
CONVERTED = 1.7
THEIR_TILE, THEIR_OVERLAP = 512, 32  # pixels, of ComfyUI's Upscale Image (using Model)


def fidelity(flow: Flow) -> Image.Image:
    """More and more of the input."""
    image = flow.picture(photograph("kitten", (36, 28, 92, 84)), "eye.png")
    large = flow.add("VARSR_Upscale", model=flow.model(), image=image)
    made = flow.one_each(
        **{
            f"{share:g}": flow.add("VARSR_Fidelity", image=large, reference=image, fidelity=share)
            for share in FIDELITIES
        }
    )
    return panels.table(list(made.values()), 3, list(made))


def as_upscale_model(flow: Flow) -> Image.Image:
    """Where two tiles of the core node meet, and the same place restored as one."""
    band = photograph("kitten", (0, 36, 128, 92))  # five times, so that tiles meet on the face
    strip = panels.row([band] * 5, gap=0).convert("RGB")
    strip = strip.crop((64, 0, 64 + THEIR_TILE + 2 * THEIR_OVERLAP, band.height))
    image, model = flow.picture(strip, "strip.png"), flow.model()
    wrapped = flow.add("VARSR_AsUpscaleModel", model=model)
    made = flow.one_each(
        apart=flow.add("ImageUpscaleWithModel", upscale_model=wrapped, image=image),
        together=flow.add("VARSR_Upscale", model=model, image=image),
    )
    middle = (THEIR_TILE - THEIR_OVERLAP / 2) / strip.width
    half = strip.height / strip.width / 2
    place = (middle - half, 0, middle + half, 1)
    return panels.table([panels.cut(picture, place) for picture in made.values()], 2)


def upscale_video(flow: Flow) -> Image.Image:
    """Frames of a film above, and the same of the film that comes out below."""
    low = [photograph("osprey", (left, 0, left + 80, 80)) for left in (0, 24, 48)]
    film = flow.film(low, "pan.mp4")
    large = flow.add("VARSR_UpscaleVideo", model=flow.model(), video=film)
    frames = flow.add("GetVideoComponents", video=large)
    made = flow.run(frames=frames)["frames"]
    plain = [panels.fitted(frame, *made[0].size) for frame in low]
    return panels.table([*plain, *made], len(low))


def get_model(_: Flow) -> Image.Image:
    """Two files are fetched and become a small one; areas are sizes."""
    board, middle, left = Board(270), 135.0, 150.0
    board.arrow(50, 130, middle)
    for size in RELEASED:
        side = 60 * size**0.5
        board.box(left, middle - side / 2, side, side, QUIET)
        board.text(left + side / 2, middle, f"{size:g}", fill=INK)
        left += side + 24
    board.arrow(left + 8, left + 88, middle)
    side = 60 * CONVERTED**0.5
    board.box(left + 110, middle - side / 2, side, side, ACCENT)
    board.text(left + 110 + side / 2, middle, f"{CONVERTED:g}", fill=INK)
    return board.finished()


PAGES: dict[str, Callable[[Flow], Image.Image]] = {
    "VARSR_Fidelity": fidelity,
    "VARSR_AsUpscaleModel": as_upscale_model,
    "VARSR_UpscaleVideo": upscale_video,
    "VARSR_GetModel": get_model,
}
