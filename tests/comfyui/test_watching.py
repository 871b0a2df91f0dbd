"""What a node shows while it works: previews of the picture, and how far each scale is."""

from __future__ import annotations

import numpy as np
from PIL import Image

from helpers.comfyui.graphs import Graph
from helpers.comfyui.server import ComfyServer

SIDES = [1, 2, 3, 4]  # of the tiny model's token maps
TILES = 6  # of the photo, four times larger
PREVIEW_SIDE = 512


def test_previews_of_the_picture_arrive_on_the_node(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=501))
    run = server.run(graph)
    assert run.succeeded, run.error
    shown = run.previews_of("upscale")
    assert shown
    result = server.view(run.images("save")[0])
    for preview in shown:
        assert max(preview.size) == PREVIEW_SIDE
        assert abs(preview.width / preview.height - result.width / result.height) < 0.03
    small = [np.asarray(p.convert("RGB").resize((32, 32), Image.BOX), float) for p in shown]
    assert np.abs(small[0] - small[-1]).mean() > 1  # tile by tile, it changes


def test_stages_show_previews_too(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model = graph.load()
    sampled = graph.sample(model, graph.prefix(model, graph.picture(uploaded)), seed=502)
    graph.save(graph.decode(model, graph.refine(model, sampled, seed=502)))
    run = server.run(graph)
    assert run.previews_of("sample")
    assert run.previews_of("refine")


def test_preview_setting_of_the_page_is_honoured(server: ComfyServer, uploaded: str) -> None:
    """0.3.75 has no such setting for a single run: there it changes nothing."""
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=503))
    run = server.run(graph, preview_method="none")
    assert run.succeeded, run.error
    knows = not server.host.match("*/0.3.75/*")
    assert bool(run.previews) != knows


def test_finished_tiles_of_every_scale_are_told(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=504))
    run = server.run(graph)
    told = [event.data for event in run.events if event.type == "varsr.progress"]
    assert {data["node"] for data in told} == {"upscale"}
    assert all(data["sides"] == SIDES for data in told)
    assert {data["all_tiles"] for data in told} == {TILES}
    assert told[-1]["tiles"] == [TILES] * len(SIDES)
    assert told[-1]["done"] == told[-1]["total"]
    assert told[0]["tiles"] == [1, 0, 0, 0]


def test_kept_scales_count_as_done(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    encoded, prefix = graph.encode(model, image), graph.prefix(model, image)
    sampled = graph.sample(model, prefix, seed=505, tokens=encoded, first_scale=2, stop_scale=3)
    graph.save(graph.decode(model, sampled))
    run = server.run(graph)
    told = [event.data for event in run.events if event.type == "varsr.progress"]
    last = [data for data in told if data["node"] == "sample"][-1]
    assert last["tiles"] == [TILES, TILES, TILES, 0]
