"""Makes the pictures of templates, help pages and README by running the pack in a real ComfyUI.

    python3 tools/generate/pictures.py

Writes web/docs/images and example_workflows/NAME.jpg: what the template makes, or, where it needs
a model that does not come with the pack, its graph. Run it again after the model or the nodes have
changed.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.environment import prepare_browser
from tools.generate.template_graphs import CLIP, NANO
from tools.generate.template_graphs import TEMPLATES as GRAPHS
from tools.host import NEWEST, PHOTOGRAPH, comfyui, in_environment

if TYPE_CHECKING:
    from PIL.Image import Image

    from helpers.comfyui.page import ComfyPage
    from helpers.comfyui.server import ComfyServer

TEMPLATES = ROOT / "example_workflows"
IMAGES = ROOT / "web" / "docs" / "images"
THUMBNAIL = 512  # pixels of the longer side
PANEL, GAP = 384, 6
TINTED = "tinted.png"
FRAME = 96, 128  # of a clip
HALF = ("varsr_upscale", "varsr_stages")  # thumbnails that show what it was before, too

NAMED = (
    "varsr/VARSR.pth",
    "nsarm/NSARM.pth",
    "text_encoders/flan_t5_xl_encoder_bf16.safetensors",
    "upscale_models/RealESRGAN_x4plus.pth",
    "checkpoints/v1-5-pruned-emaonly-fp16.safetensors",
)
PAGE, FRAME_OF_A_NODE, FRAME_OF_A_GRAPH = (1600, 1000), (960, 560), (1520, 900)  # pixels
MARGIN = 40
CENTER = """([kind, width, height]) => {
    const { canvas, graph } = app;
    canvas.deselectAll?.();
    const found = graph._nodes.filter(n => kind ? n.type === kind : n.type !== "MarkdownNote");
    const nodes = kind ? found.slice(0, 1) : found;
    const left = Math.min(...nodes.map(node => node.pos[0]));
    const right = Math.max(...nodes.map(node => node.pos[0] + node.size[0]));
    const top = Math.min(...nodes.map(node => node.pos[1])) - 40; // a title
    const bottom = Math.max(...nodes.map(node => node.pos[1] + node.size[1]));
    const scale = Math.min(0.8, width / (right - left), height / (bottom - top));
    canvas.ds.scale = scale;
    const whole = canvas.canvas.getBoundingClientRect();
    canvas.ds.offset = [
        whole.width / 2 / scale - (left + right) / 2, whole.height / 2 / scale - (top + bottom) / 2,
    ];
    canvas.setDirty(true, true);
    return [scale * (right - left), scale * (bottom - top)];
}"""

MODEL, PICTURE = ["model", 0], ["picture", 0]
STAGES = {
    "model": ("VARSR_LoadModel", {"checkpoint": NANO, "dtype": "auto"}),
    "picture": ("LoadImage", {"image": PHOTOGRAPH.name}),
    "tinted": ("LoadImage", {"image": TINTED}),
    "prefix": ("VARSR_EncodePrefix", {"model": MODEL, "image": PICTURE}),
    "sampled": ("VARSR_Sample", {"model": MODEL, "prefix": ["prefix", 0]}),
    "unguided": ("VARSR_Sample", {"model": MODEL, "prefix": ["prefix", 0], "guidance": 0.0}),
    "refined": ("VARSR_Refine", {"model": MODEL, "tokens": ["sampled", 0]}),
    "own": ("VARSR_EncodeTokens", {"model": MODEL, "image": PICTURE, "scale": 1.0}),
    "result": ("VARSR_Decode", {"model": MODEL, "tokens": ["refined", 0]}),
    "plain tokens": ("VARSR_Decode", {"model": MODEL, "tokens": ["sampled", 0]}),
    "without guidance": ("VARSR_Decode", {"model": MODEL, "tokens": ["unguided", 0]}),
    "round trip": ("VARSR_Decode", {"model": MODEL, "tokens": ["own", 0]}),
    "scales": ("VARSR_DecodeScales", {"model": MODEL, "tokens": ["sampled", 0]}),
    "matched": ("VARSR_MatchColors", {"image": ["tinted", 0], "reference": PICTURE}),
    "upscaled": ("VARSR_Upscale", {"model": MODEL, "image": PICTURE}),
    "fast": ("VARSR_Accelerate", {"model": MODEL, "weights": "fp8", "unguided_scales": 2}),
    "upscaled fast": ("VARSR_Upscale", {"model": ["fast", 0], "image": PICTURE}),
}  # fmt: skip
SHOWN = (
    "result",
    "plain tokens",
    "without guidance",
    "round trip",
    "scales",
    "matched",
    "upscaled",
    "upscaled fast",
)


def stages(known: dict[str, dict]) -> dict[str, dict]:
    """All nodes at once, with their defaults, and what they make saved."""
    graph = {}
    for name, (kind, given) in STAGES.items():
        declared = known[kind]["input"]["required"]
        defaults = {key: d[1]["default"] for key, d in declared.items() if "default" in d[-1]}
        graph[name] = {"class_type": kind, "inputs": {**defaults, **given}}
    for name in SHOWN:
        inputs = {"images": [name, 0], "filename_prefix": "shown"}
        graph[f"save {name}"] = {"class_type": "SaveImage", "inputs": inputs}
    return graph


def run(server: ComfyServer, graph: dict[str, dict]) -> dict[str, list[Image]]:
    """What every saving node saved."""
    done = server.run(graph, timeout=600)
    if not done.succeeded:
        raise SystemExit(f"the run failed: {done.error}\n{server.log[-3000:]}")
    savers = [name for name, node in graph.items() if node["class_type"] == "SaveImage"]
    return {name: [server.view(image) for image in done.images(name)] for name in savers}


def side_by_side(*pictures: Image, height: int = PANEL) -> Image:
    from PIL import Image as Pictures

    scaled = [p.convert("RGB").resize((p.width * height // p.height, height)) for p in pictures]
    width = sum(p.width for p in scaled) + GAP * (len(scaled) - 1)
    row = Pictures.new("RGB", (width, height), "white")
    left = 0
    for picture in scaled:
        row.paste(picture, (left, 0))
        left += picture.width + GAP
    return row


def help_pictures(server: ComfyServer) -> None:
    from PIL import Image as Pictures
    from PIL import ImageChops

    low = Pictures.open(PHOTOGRAPH).convert("RGB")
    tinted = ImageChops.multiply(low, Pictures.new("RGB", low.size, (255, 190, 140)))
    server.upload(tinted, TINTED)
    made = run(server, stages(server.object_info()))
    one = {name.removeprefix("save "): pictures[0] for name, pictures in made.items()}
    scales = side_by_side(*made["save scales"], height=160)
    shown = {
        "VARSR_LoadModel": side_by_side(low, one["upscaled"]),
        "VARSR_Upscale": side_by_side(low, one["upscaled"]),
        "VARSR_Accelerate": side_by_side(one["upscaled"], one["upscaled fast"]),
        "VARSR_EncodePrefix": side_by_side(low, one["result"]),
        "VARSR_Sample": side_by_side(one["without guidance"], one["plain tokens"]),
        "VARSR_Refine": side_by_side(one["plain tokens"], one["result"]),
        "VARSR_Decode": side_by_side(low, one["result"]),
        "VARSR_DecodeScales": scales,
        "VARSR_EncodeTokens": side_by_side(low, one["round trip"]),
        "VARSR_MatchColors": side_by_side(tinted, low, one["matched"]),
    }
    pair = side_by_side(low, one["upscaled"], height=(scales.width - GAP) // 2)
    overview = Pictures.new("RGB", (scales.width, pair.height + GAP + scales.height), "white")
    overview.paste(pair, (0, 0))
    overview.paste(scales, (0, pair.height + GAP))
    IMAGES.mkdir(exist_ok=True)
    for name, picture in {**shown, "overview": overview}.items():
        picture.save(IMAGES / f"{name}.webp", quality=88)


def graph_pictures(server: ComfyServer, browser: Path, others: list[str]) -> None:
    """Nodes whose model is not at hand, each in its template, and whole templates."""
    from helpers.comfyui.page import launched, opened

    for name in NAMED:  # the page marks what is not there
        file = server.base / "models" / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    with launched(str(browser)) as running, opened(running, server, vue=False) as page:
        page.page.evaluate("app.extensionManager.setting.set('Comfy.Minimap.Visible', false)")
        for kind, template in in_a_graph(server.object_info()).items():
            shot(page, template, kind).save(IMAGES / f"{kind}.webp", quality=88)
        for template in others:
            picture = shot(page, template)
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            picture.save(TEMPLATES / f"{template}.jpg", quality=85)


def in_a_graph(known: dict[str, dict]) -> dict[str, str]:
    """The pack's nodes that do not run here, and the first template with each."""
    category = known["VARSR_Upscale"]["category"]
    run_here = {kind for kind, _ in STAGES.values()}
    kinds = [kind for kind, said in known.items() if said["category"] == category]
    return {
        kind: next(graph.name for graph in GRAPHS if any(n.kind == kind for n in graph.nodes))
        for kind in kinds
        if kind not in run_here
    }


def shot(page: ComfyPage, template: str, kind: str | None = None) -> Image:
    """A template's graph, or its first node of a kind."""
    from PIL import Image as Pictures

    page.load(json.loads((TEMPLATES / f"{template}.json").read_text()))
    width, height = FRAME_OF_A_NODE if kind else FRAME_OF_A_GRAPH
    drawn = page.page.evaluate(CENTER, [kind, width - MARGIN, height - MARGIN])
    page.page.wait_for_timeout(500)
    if not kind:
        width, height = (round(side) + MARGIN for side in drawn)
    place = {"x": (PAGE[0] - width) // 2, "y": (PAGE[1] - height) // 2}
    taken = page.page.screenshot(clip={**place, "width": width, "height": height})
    return Pictures.open(io.BytesIO(taken)).convert("RGB")


def thumbnails(server: ComfyServer) -> list[str]:
    """Of the templates that can run; returns the others."""
    write_clip(server.base / "input" / CLIP)
    known = server.object_info()
    others = []
    for path in sorted((TEMPLATES / "api").glob("*.json")):
        graph = json.loads(path.read_text())
        if not all(runnable(node, known) for node in graph.values()):
            others.append(path.stem)
            continue
        result = made(server, graph)
        if path.stem in HALF:
            result.paste(_before(result), (0, 0))
        result.thumbnail((THUMBNAIL, THUMBNAIL))
        result.save(TEMPLATES / f"{path.stem}.jpg", quality=85)
    return others


def made(server: ComfyServer, graph: dict[str, dict]) -> Image:
    """What a template makes; of a clip some frames."""
    for node in list(graph.values()):
        if node["class_type"] == "CreateVideo":
            frames = {"images": node["inputs"]["images"], "filename_prefix": "frame"}
            graph["frames"] = {"class_type": "SaveImage", "inputs": frames}
    (pictures,) = run(server, graph).values()
    return pictures[0].convert("RGB") if len(pictures) == 1 else side_by_side(*pictures)


def write_clip(path: Path) -> None:
    """The photograph, moving sideways."""
    import av
    from PIL import Image as Pictures

    whole = Pictures.open(PHOTOGRAPH).convert("RGB")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4, options={"qscale": "2"})
        stream.width, stream.height = FRAME
        for left in range(0, whole.width - FRAME[0] + 1, 16):
            frame = whole.crop((left, 0, left + FRAME[0], FRAME[1]))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))


def _before(result: Image) -> Image:
    """The left half of the photograph, plainly enlarged."""
    from PIL import Image as Pictures

    whole = (
        Pictures.open(PHOTOGRAPH).convert("RGB").resize(result.size, Pictures.Resampling.BICUBIC)
    )
    return whole.crop((0, 0, result.width // 2, result.height))


def runnable(node: dict, known: dict[str, dict]) -> bool:
    """Whether every choice of a node is among those the host has, files included."""
    for name, declared in known[node["class_type"]]["input"].get("required", {}).items():
        choices = declared[-1].get("options") if declared[0] == "COMBO" else declared[0]
        if isinstance(choices, list) and node["inputs"].get(name) not in choices:
            return False
    return True


def main() -> None:
    with comfyui(in_environment().hosts[NEWEST]) as (server, _):
        help_pictures(server)
        others = thumbnails(server)
        graph_pictures(server, prepare_browser(), others)


if __name__ == "__main__":
    main()
