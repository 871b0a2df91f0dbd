"""Makes the pictures that the page's list of templates shows, example_workflows/NAME.jpg.

    python3 tools/generate/thumbnails.py

Those that can run are run in a real ComfyUI, on the photograph of the tests; the others are drawn.
Run it again after the model, the nodes or the templates have changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.generate.template import EXAMPLE
from tools.generate.template_graphs import TEMPLATES
from tools.host import NEWEST, PHOTOGRAPH, comfyui, in_environment

if TYPE_CHECKING:
    from PIL.Image import Image

    from helpers.comfyui.server import ComfyServer

FOLDER = ROOT / "example_workflows"
QUALITIES, LARGEST = (88, 80, 70), 60e3  # bytes
DETAIL_AT, MOVES_BY = (16, 10), 4  # in the photograph, which is smaller than ComfyUI's picture
PATIENCE = 1200  # seconds for one graph; machines may be busy


def run(server: ComfyServer, name: str, **changes: object) -> list[Image]:
    """What a template makes of the photograph: pictures, or frames.

    changes: inputs that differ, of whatever node has them
    """
    graph = json.loads((FOLDER / "api" / f"{name}.json").read_text())
    crops = [node["inputs"] for node in graph.values() if node["class_type"] == "ImageCrop"]
    for number, crop in enumerate(crops):
        if crop["x"]:  # a detail
            crop["x"], crop["y"] = DETAIL_AT[0] + number * MOVES_BY, DETAIL_AT[1]
    for node in list(graph.values()):
        node["inputs"] |= {key: changes[key] for key in node["inputs"].keys() & changes.keys()}
        if node["class_type"] == "SaveVideo":
            video = {"video": node["inputs"]["video"]}
            graph["parts"] = {"class_type": "GetVideoComponents", "inputs": video}
            frames = {"images": ["parts", 0], "filename_prefix": "frame"}
            graph["shown"] = {"class_type": "SaveImage", "inputs": frames}
        if node["class_type"] == "VARSR_Sample" and changes.get("scales"):
            (sampler,) = [number for number, found in graph.items() if found is node]
            inputs = {"model": node["inputs"]["model"], "tokens": [sampler, 0]}
            graph["scales"] = {"class_type": "VARSR_DecodeScales", "inputs": inputs}
            frames = {"images": ["scales", 0], "filename_prefix": "scale"}
            graph["shown"] = {"class_type": "SaveImage", "inputs": frames}
    done = server.run(graph, timeout=PATIENCE)
    if not done.succeeded:
        raise SystemExit(f"{name}: {done.error or done.body}\n{server.log[-3000:]}")
    savers = [number for number, node in graph.items() if node["class_type"] == "SaveImage"]
    shown = "shown" if "shown" in savers else savers[0]
    return [server.view(image) for image in done.images(shown)]


def before_and_after(server: ComfyServer, name: str) -> Image:
    from tools.generate.cards import SIDE, Card

    (made,) = run(server, name)
    card = Card(made)
    card.paste(photograph().crop((0, 0, 64, 128)), 0, 0, SIDE / 2, SIDE)
    card.line((SIDE / 2, 0), (SIDE / 2, SIDE), fill="white", width=6)
    card.label(SIDE / 4, 470, "before")
    card.label(3 * SIDE / 4, 470, "after")
    return card.finished()


def film(server: ComfyServer, name: str) -> Image:
    from tools.generate.cards import SIDE, Card

    frames = run(server, name)
    card = Card("#0e0e10")
    for number, frame in enumerate((frames[0], frames[1], frames[-2], frames[-1])):
        left, top = 10 + number % 2 * 250, 48 + number // 2 * 256
        card.paste(frame, left, top - 20, 242, 204)
    for strip in range(2):
        for hole in range(8):
            for top in (6, 220):
                card.box(18 + hole * 62, top + strip * 256, 36, 16, fill="#e8e4da", radius=4)
    card.shape((206, 196), (206, 316), (316, 256), fill="white")
    assert card.picture.width > SIDE
    return card.finished()


def masked(server: ComfyServer, name: str) -> Image:
    from tools.generate.cards import SIDE, Card

    (made,) = run(server, name, scale=4.0)
    graph = json.loads((FOLDER / "api" / f"{name}.json").read_text())
    (place,) = [n["inputs"] for n in graph.values() if n["class_type"] == "MaskComposite"]
    sides = graph[place["source"][0]]["inputs"]
    unit = SIDE / graph[place["destination"][0]]["inputs"]["width"]
    box = [unit * value for value in (place["x"], place["y"], sides["width"], sides["height"])]
    card = Card(made)
    card.box(*box, outline="#ffcf5c", line=5, radius=2)
    return card.finished()


def compared(server: ComfyServer, name: str) -> Image:
    from tools.generate.cards import SIDE, Card

    (made,) = run(server, name)
    card = Card(made)
    half = SIDE / 2
    card.line((half, 0), (half, SIDE), fill="white", width=6)
    card.line((0, half), (SIDE, half), fill="white", width=6)
    for number, words in enumerate(("3 scales", "4 scales", "5 scales", "refined")):
        card.label(half / 2 + number % 2 * half, 222 + number // 2 * half, words)
    return card.finished()


def kept(server: ComfyServer, name: str) -> Image:
    from tools.generate.cards import Card

    (made,) = run(server, name)
    card = Card(made)
    card.box(16, 420, 480, 76, fill="#10141b", radius=10)
    for scale in range(7):
        fill = "#8fb4ff" if scale < 3 else "#10141b"
        card.box(30 + scale * 66, 434, 56, 48, fill=fill, outline="#8fb4ff", radius=8)
    return card.finished()


def scale_by_scale(server: ComfyServer, name: str) -> Image:
    """Bands from coarse to fine."""
    from tools.generate.cards import SIDE, Card

    scales = run(server, name, scales=True)
    card, shown = Card(), scales[1:]
    width = SIDE / len(shown)
    for number, picture in enumerate(shown):
        part = picture.width / len(shown)
        band = picture.crop((round(number * part), 0, round((number + 1) * part), picture.height))
        card.paste(band, number * width, 0, width, SIDE)
        if number:
            card.line((number * width, 0), (number * width, SIDE), fill="white", width=3)
    return card.finished()


def photograph() -> Image:
    from PIL import Image as Pictures

    return Pictures.open(PHOTOGRAPH).convert("RGB")


RUN: dict[str, Callable[[ComfyServer, str], Image]] = {
    "1 Upscale a picture": before_and_after,
    "2 Upscale a video": film,
    "Film steady": film,
    "3 Restore a part of a picture": masked,
    "4 Compare settings": compared,
    "5 Keep the structure": kept,
    "6 Step by step": scale_by_scale,
}


def drawn() -> Iterator[tuple[str, Image]]:
    """Templates whose model cannot come along."""
    from tools.generate.cards import Card, chain, lighthouse

    yield (
        "7 Upscale with the released model",
        chain(["Get VARSR Model"], ["VARSR Upscale", "1.1 billion weights"], needs="fetches 15 GB"),
    )
    card = Card()
    lighthouse(card, 24, 150, 110)
    card.line((150, 205), (192, 205), width=10)
    card.shape((190, 185), (190, 225), (218, 205), fill="#8fb4ff")
    lighthouse(card, 232, 60, 256)
    card.text(256, 370, "Generate, then 4x larger", 36)
    card.needs("needs a checkpoint")
    yield "8 Generate and upscale", card.finished()
    yield (
        "9 Restore after another upscaler",
        chain(["Real-ESRGAN", "enlarges"], ["VARSR", "restores"], needs="needs an upscale model"),
    )
    yield (
        "Class to image then VARSR 4x",
        chain(["Class to Image", "3830 classes"], ["VARSR Upscale"], needs="needs VARSR_C2I.pth"),
    )
    yield (
        "K2N Keep closer to the input",
        chain(["K2N", "coarse scales"], ["VARSR Upscale", "fine scales"], needs="needs K2NSR.pth"),
    )
    yield (
        "NSARM 1 Upscale a picture",
        chain(["Load Image"], ["NSARM Upscale", "8.8 billion weights"], needs="needs NSARM.pth"),
    )
    stages = (["Encode Text"], ["NSARM Prefix"], ["NSARM Sample"], ["NSARM Decode"])
    yield "NSARM 2 Step by step", chain(*stages, needs="needs NSARM.pth")
    yield (
        "Upscale model for other nodes",
        chain(["VARSR", "as Upscale Model"], ["Upscale Image", "(using Model)"]),
    )


def save(name: str, picture: Image) -> None:
    path = FOLDER / f"{name}.jpg"
    for quality in QUALITIES:
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path.name} has {path.stat().st_size} bytes")


def main() -> None:
    hosts = in_environment().hosts
    pictures = dict(drawn())
    with comfyui(hosts[NEWEST]) as (server, _):
        server.upload(photograph(), EXAMPLE)
        pictures |= {name: make(server, name) for name, make in RUN.items()}
    assert set(pictures) == {template.name for template in TEMPLATES}
    for old in FOLDER.glob("*.jpg"):
        old.unlink()
    for name, picture in pictures.items():
        save(name, picture)


if __name__ == "__main__":
    main()
