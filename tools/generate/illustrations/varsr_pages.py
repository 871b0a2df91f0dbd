"""What each node of VARSR does, shown on photographs that this pack restored."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageChops, ImageDraw

from tools.generate.illustrations import panels
from tools.generate.illustrations.flow import Flow
from tools.host import ROOT

DATA = ROOT / "tests" / "data"
AMPLIFIED = 8  # times, where a difference is too small to be seen
TILE, PIXELS, OVERLAP = 128, 8, 0.25  # of the pack's model: a tile, a token; of the nodes
VARIANTS = {"top_k": 50, "temperature": 1.0, "guidance": 0.0}


def photograph(name: str, place: tuple[int, int, int, int] | None = None) -> Image.Image:
    """One of tests/data, or a part of it: left, top, right and bottom in pixels."""
    whole = Image.open(DATA / f"{name}.png").convert("RGB")
    return whole.crop(place) if place else whole


def upscale(flow: Flow) -> Image.Image:
    """The small picture at its own size, and what came of it."""
    low = photograph("kitten")
    image = flow.picture(low, "kitten.png")
    made = flow.one_each(large=flow.add("VARSR_Upscale", model=flow.model(), image=image))["large"]
    return panels.row([low, panels.arrow(low.height), made])


def load_model(flow: Flow) -> Image.Image:
    """Plainly enlarged on the left, restored by the small model on the right."""
    low = photograph("colosseum")
    image = flow.picture(low, "colosseum.png")
    made = flow.one_each(large=flow.add("VARSR_Upscale", model=flow.model(), image=image))["large"]
    whole = panels.halves(panels.fitted(low, *made.size), made)
    return panels.cut(whole, (0, 0.08, 1, 0.82))


def accelerate(flow: Flow) -> Image.Image:
    """Plain, accelerated, and by how much they differ."""
    bird = photograph("osprey", (48, 0, 128, 80))
    image, model = flow.picture(bird, "bird.png"), flow.model()
    fast = flow.add("VARSR_Accelerate", model=model, weights="fp8", unguided_scales=2)
    made = flow.one_each(
        plain=flow.add("VARSR_Upscale", model=model, image=image),
        fast=flow.add("VARSR_Upscale", model=fast, image=image),
    )
    apart = panels.difference(made["plain"], made["fast"], AMPLIFIED)
    return panels.table([made["plain"], made["fast"], apart], 3, ["", "", f"{AMPLIFIED}x"])


def encode_prefix(flow: Flow) -> Image.Image:
    """The picture, what the model sees: enlarged, in tiles, and a tile as tokens."""
    from varsr_core.tiling.grid import TileGrid

    low = photograph("colosseum", (0, 0, 80, 80))
    side = low.width * 4
    seen = panels.enlarged(low, 4).convert("RGBA")
    grid = TileGrid(side, side, TILE, int(TILE * OVERLAP), PIXELS)
    veil = Image.new("RGBA", seen.size, panels.CLEAR)
    for top, left in grid.positions:
        square = Image.new("RGBA", (TILE, TILE), (17, 21, 28, 70))
        ImageDraw.Draw(square).rectangle((0, 0, TILE - 1, TILE - 1), outline="white", width=2)
        veil.alpha_composite(square, (left, top))
    tiles = Image.alpha_composite(seen, veil)
    top, left = grid.positions[len(grid) // 2]
    tile = panels.fitted(seen.crop((left, top, left + TILE, top + TILE)), side, side)
    draw, cells = ImageDraw.Draw(tile), TILE // PIXELS
    for k in range(1, cells):
        at = round(k * side / cells)
        draw.line((at, 0, at, side), fill="#f2efe6")
        draw.line((0, at, side, at), fill="#f2efe6")
    arrow = panels.arrow(side, 36)
    return panels.row([low, arrow, tiles, arrow, tile], gap=4)


def sample(flow: Flow) -> Image.Image:
    """Stopped after some scales; and variants, where it may choose among tokens."""
    model = flow.model()
    image = flow.picture(photograph("osprey", (0, 8, 80, 88)), "needles.png")
    prefix = flow.add("VARSR_EncodePrefix", model=model, image=image)
    stops, seeds = (2, 4, 6, 0), range(4)
    shown = {}
    for stop in stops:
        tokens = flow.add("VARSR_Sample", model=model, prefix=prefix, stop_scale=stop)
        shown[f"stop {stop}"] = flow.decoded(model, tokens)
    for seed in seeds:
        tokens = flow.add("VARSR_Sample", model=model, prefix=prefix, seed=seed, **VARIANTS)
        shown[f"seed {seed}"] = flow.decoded(model, tokens)
    made = flow.one_each(**shown)
    badges = [str(stop or 7) for stop in stops]
    upper = panels.table([made[f"stop {stop}"] for stop in stops], len(stops), badges)
    crops = [panels.cut(made[f"seed {seed}"], (0.1, 0.1, 0.5, 0.5)) for seed in seeds]
    return panels.stack([upper, panels.table(crops, len(seeds), [f"#{seed}" for seed in seeds])])


def refine(flow: Flow) -> Image.Image:
    """A part at twice its size: without the refiner, with it, and what it added."""
    eye = photograph("kitten", (36, 36, 92, 92))
    image, model = flow.picture(eye, "eye.png"), flow.model()
    tokens = flow.sampled(model, image)
    refined = flow.add("VARSR_Refine", model=model, tokens=tokens)
    made = flow.one_each(without=flow.decoded(model, tokens), added=flow.decoded(model, refined))
    middle = (0.2, 0.2, 0.8, 0.8)
    without, added = (panels.cut(made[name], middle) for name in ("without", "added"))
    apart = panels.difference(without, added, AMPLIFIED)
    return panels.table([without, added, apart], 3, ["0", "1", f"{AMPLIFIED}x"])


def decode(flow: Flow) -> Image.Image:
    """The latent as the preview shows it, a square for each token, and the picture."""
    model = flow.model()
    wing = photograph("osprey", (56, 8, 112, 64))
    tokens = flow.sampled(model, flow.picture(wing, "wing.png"))
    flow.add("PreviewImage", images=flow.decoded(model, tokens))
    done = flow.done()
    last = [preview for preview in done.previews if preview.node_id == tokens[0]][-1].image
    picture = flow.one_each(picture=flow.decoded(model, tokens))["picture"]
    side = (panels.WIDTH - 48 - 2 * panels.GAP) // 2
    squares = panels.in_squares(last.convert("RGB"), picture.width // PIXELS, side)
    shown = panels.fitted(picture, side, side)
    return panels.row([squares, panels.arrow(side), shown])


def decode_scales(flow: Flow) -> Image.Image:
    """The input, then the picture after each scale, with its tokens a side."""
    low = photograph("circuits", (0, 0, 80, 80))
    pictures, sides = scales(flow, low, "board.png")
    shown = [panels.fitted(low, *pictures[0].size), *pictures]
    return panels.table(shown, 4, ["", *map(str, sides)])


def encode_tokens(flow: Flow) -> Image.Image:
    """A picture with a disc painted in, and what is left of it by kept scales."""
    model, kept = flow.model(), (0, 2, 4, 5, 6)
    plain = photograph("osprey", (48, 0, 104, 56))
    edited = panels.enlarged(plain, 4)
    ImageDraw.Draw(edited).ellipse((60, 60, 164, 164), fill="#e8642d")
    edited = edited.resize(plain.size, Image.Resampling.BOX)
    own = flow.add(
        "VARSR_EncodeTokens", model=model, image=flow.picture(edited, "edited.png"), scale=4.0
    )
    prefix = flow.add("VARSR_EncodePrefix", model=model, image=flow.picture(plain, "wing.png"))
    shown = {}
    for first in kept:
        tokens = flow.add("VARSR_Sample", model=model, prefix=prefix, tokens=own, first_scale=first)
        shown[f"keep {first}"] = flow.decoded(model, tokens)
    made = flow.one_each(**shown)
    pictures = [panels.enlarged(edited, 4), *(made[f"keep {first}"] for first in kept)]
    return panels.table(pictures, 3, ["", *map(str, kept)])


def match_colors(flow: Flow) -> Image.Image:
    """A reference, a picture with a cast on one side, and what each mode makes of it."""
    low = photograph("colosseum")
    model = flow.model()
    reference = flow.picture(low, "colosseum.png")
    plain = flow.one_each(
        plain=flow.add("VARSR_Upscale", model=model, image=reference, scale=2.0, guidance=0.0)
    )["plain"].convert("RGB")
    cast = ImageChops.multiply(plain, Image.new("RGB", plain.size, (120, 200, 255)))
    fade = Image.linear_gradient("L").rotate(90).resize(plain.size)
    cast = Image.composite(plain, cast, fade)
    image, modes = flow.picture(cast, "cast.png"), ("adain", "wavelet", "lab")
    made = flow.one_each(
        **{
            mode: flow.add("VARSR_MatchColors", image=image, reference=reference, mode=mode)
            for mode in modes
        },
        half=flow.add("VARSR_MatchColors", image=image, reference=reference, strength=0.5),
    )
    pictures = [
        panels.fitted(low, *plain.size),
        cast,
        *(made[mode] for mode in modes),
        made["half"],
    ]
    return panels.table(pictures, 3, ["", "none", *modes, "adain 0.5"])


def overview(flow: Flow) -> Image.Image:
    """The lead of README, one wide row: the input, the picture after each scale, the result."""
    low = photograph("kitten", (4, 16, 100, 112))
    made, sides = scales(flow, low, "face.png", refined=False)
    result = Flow(flow.server, flow.known)
    image = result.picture(low, "face.png")
    last = result.one_each(last=result.add("VARSR_Upscale", model=result.model(), image=image))
    shown = [panels.fitted(low, *made[0].size), *made, last["last"]]
    badges = ["", *map(str, sides), ""]
    return panels.table(shown, len(shown), badges, width=1800, badge=46)


def scales(
    flow: Flow, low: Image.Image, name: str, *, refined: bool = True
) -> tuple[list[Image.Image], tuple[int, ...]]:
    """The picture after each scale, and how many tokens a tile's side has at each."""
    from varsr_core import load_model as load

    model = flow.model()
    tokens = flow.sampled(model, flow.picture(low, name))
    if refined:
        tokens = flow.add("VARSR_Refine", model=model, tokens=tokens)
    made = flow.run(scales=flow.add("VARSR_DecodeScales", model=model, tokens=tokens))["scales"]
    return made, load().model.config.schedule.sides


PAGES: dict[str, Callable[[Flow], Image.Image]] = {
    "VARSR_Upscale": upscale,
    "VARSR_LoadModel": load_model,
    "VARSR_Accelerate": accelerate,
    "VARSR_EncodePrefix": encode_prefix,
    "VARSR_Sample": sample,
    "VARSR_Refine": refine,
    "VARSR_Decode": decode,
    "VARSR_DecodeScales": decode_scales,
    "VARSR_EncodeTokens": encode_tokens,
    "VARSR_MatchColors": match_colors,
    "overview": overview,
}
