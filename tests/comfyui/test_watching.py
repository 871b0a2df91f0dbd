"""What a node shows while it works: previews of the picture, how far each scale is, and words."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.comfyui.graphs import Graph
from helpers.comfyui.nsarm_checkpoints import write_nsarm
from helpers.comfyui.nsarm_graphs import NSARMGraph
from helpers.comfyui.pictures import restore, with_alpha
from helpers.comfyui.run import Run
from helpers.comfyui.server import ComfyServer
from helpers.paths import ROOT

SIDES = [1, 2, 3, 4]  # of the tiny model's token maps
TILES = 6  # of the photo, four times larger
PREVIEW_SIDE = 512
CLOSE = 1.0  # levels of 255
KITTEN = Image.open(ROOT / "tests" / "data" / "kitten.png").convert("RGB")


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), float)


def check_last(run: Run, node: str, result: Image.Image) -> None:
    """The last preview is the result, reduced to its size; none is larger."""
    shown = run.previews_of(node)
    largest = max(*result.size, PREVIEW_SIDE)
    size = tuple(max(1, side * PREVIEW_SIDE // largest) for side in result.size)
    assert {preview.size for preview in shown} == {size}
    reduced = result.convert("RGB").resize(size, Image.BICUBIC)
    assert np.abs(levels(shown[-1]) - levels(reduced)).mean() < CLOSE


def told_by(run: Run, node: str) -> list[dict[str, Any]]:
    """What the page is told of a node's work."""
    told = [event.data for event in run.events if event.type == "varsr.progress"]
    return [data for data in told if data["node"] == node]


@pytest.mark.parametrize("kind", ["photograph", "alpha", "grey", "masked", "large", "one tile"])
def test_the_last_preview_of_an_upscale_is_its_result(server: ComfyServer, kind: str) -> None:
    picture = KITTEN.resize((40, 30) if kind != "large" else (180, 130))
    picture = picture.resize((16, 16)) if kind == "one tile" else picture
    picture = with_alpha(picture) if kind == "alpha" else picture
    picture = picture.convert("L") if kind == "grey" else picture
    graph = Graph()
    image = graph.picture(server.upload(picture, f"last_{kind}.png"))
    more: dict[str, Any] = {"alpha": [image[0], 1]} if kind == "alpha" else {}
    if kind == "masked":
        mask = graph.add("mask", "SolidMask", value=1.0, width=20, height=picture.height)
        plain = graph.add("plain", "SolidMask", value=0.0, width=40, height=picture.height)
        place = {"x": 0, "y": 0, "operation": "add"}
        more["mask"] = graph.add("half", "MaskComposite", destination=plain, source=mask, **place)
    graph.save(graph.upscale(graph.load(), image, seed=501, **more))
    run = restore(server, graph)
    check_last(run, "upscale", server.view(run.images("save")[0]))


def test_sketches_have_the_colours_of_the_picture(server: ComfyServer) -> None:
    """Of the built-in model: from the first scale on, and in the end nearly those of its result."""
    graph = Graph()
    model = graph.load("varsr_nano (built in)", "fp32")
    name = server.upload(KITTEN.resize((64, 64)), "kitten_64.png")
    graph.save(graph.upscale(model, graph.picture(name), seed=502))
    run = restore(server, graph)
    result = server.view(run.images("save")[0])
    check_last(run, "upscale", result)
    shown = [levels(preview) for preview in run.previews_of("upscale")]
    assert len(shown) > 3
    means = np.array([picture.mean(axis=(0, 1)) for picture in shown])
    assert np.abs(means - levels(result).mean(axis=(0, 1))).max() < 3
    assert np.abs(shown[0] - shown[-1]).mean() > 1, "tile by tile, it changes"


def test_of_a_batch_the_last_picture_is_shown_last(server: ComfyServer) -> None:
    graph = Graph()
    pictures = [KITTEN.resize((24, 16)), KITTEN.transpose(Image.FLIP_LEFT_RIGHT).resize((24, 16))]
    nodes = [
        graph.picture(server.upload(picture, f"batch_{number}.png"), f"picture {number}")
        for number, picture in enumerate(pictures)
    ]
    batch = graph.add("batch", "ImageBatch", image1=nodes[0], image2=nodes[1])
    graph.save(graph.upscale(graph.load(), batch, seed=503))
    run = restore(server, graph)
    check_last(run, "upscale", server.view(run.images("save")[-1]))


def test_the_last_previews_of_the_stages_are_what_they_made(
    server: ComfyServer, uploaded: str
) -> None:
    graph = Graph()
    model = graph.load()
    sampled = graph.sample(model, graph.prefix(model, graph.picture(uploaded)), seed=504)
    refined = graph.refine(model, sampled, seed=504)
    graph.save(graph.decode(model, refined))
    graph.save(graph.decode_scales(model, refined), "save scales")
    run = restore(server, graph)
    result = server.view(run.images("save")[0])
    check_last(run, "decode", result)
    check_last(run, "scales", server.view(run.images("save scales")[-1]))
    for node in ("sample", "refine"):
        shown = run.previews_of(node)
        assert shown[-1].size == result.size, node
    assert not run.previews_of("prefix"), "there is no picture yet"


def test_the_last_preview_of_nsarm_is_its_result(server: ComfyServer) -> None:
    write_nsarm(server.base / "models")
    graph = NSARMGraph()
    model = graph.load()
    image = graph.picture(server.upload(KITTEN.resize((64, 48)), "nsarm_last.png"))
    graph.save(graph.upscale(model, image, seed=505))
    prefix = graph.prefix(model, image)
    graph.save(graph.decode(model, graph.sample(model, prefix, seed=505)), "save decoded")
    run = restore(server, graph)
    check_last(run, "upscale", server.view(run.images("save")[0]))
    check_last(run, "decode", server.view(run.images("save decoded")[0]))
    assert run.previews_of("sample")[-1].size == run.previews_of("decode")[-1].size


def test_preview_setting_of_the_page_is_honoured(server: ComfyServer, uploaded: str) -> None:
    """0.3.75 has no such setting for a single run: there it changes nothing."""
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=506))
    run = server.run(graph, preview_method="none")
    assert run.succeeded, run.error
    knows = not server.host.match("*/0.3.75/*")
    assert bool(run.previews) != knows


def test_finished_tiles_of_every_scale_are_told(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=507))
    told = told_by(restore(server, graph), "upscale")
    assert all(data["sides"] == SIDES for data in told)
    assert {data["all_tiles"] for data in told} == {TILES}
    assert told[0]["tiles"] == [0] * len(SIDES)
    assert told[-1]["tiles"] == [TILES] * len(SIDES)
    assert [data["done"] == data["total"] for data in told] == [False] * (len(told) - 1) + [True]


def test_kept_scales_count_as_done(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    encoded, prefix = graph.encode(model, image), graph.prefix(model, image)
    sampled = graph.sample(model, prefix, seed=508, tokens=encoded, first_scale=2, stop_scale=3)
    graph.save(graph.decode(model, sampled))
    told = told_by(restore(server, graph), "sample")
    assert told[-1]["tiles"] == [TILES, TILES, TILES, 0]
    assert {data["scales"] for data in told} <= {None, 4}, "of the model, not of this run"


def test_stages_are_told_in_the_order_of_the_work(server: ComfyServer) -> None:
    """Of one tile of the built-in model, on which each takes longer than between two events."""
    graph = Graph()
    model = graph.load("varsr_nano (built in)", "fp32")
    name = server.upload(KITTEN.resize((32, 32)), "kitten_32.png")
    graph.save(graph.upscale(model, graph.picture(name), seed=509))
    told = told_by(restore(server, graph), "upscale")
    told = [(data["stage"], data["scale"], data["scales"]) for data in told]
    order = [("encoding", None, None), *(("scale", k, 7) for k in range(1, 8))]
    order += [(key, None, None) for key in ("refining", "decoding", "finishing")]
    found = [stage for stage, _ in groupby(told)]
    assert found == [stage for stage in order if stage in found]
    assert found[0] == order[0]
    assert found[-1] == order[-1]
    assert ("scale", 7, 7) in found
