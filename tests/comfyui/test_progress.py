"""The bar on a node: it counts pieces of work, and it reaches its end."""

from __future__ import annotations

import pytest

from helpers.comfyui.graphs import Graph
from helpers.comfyui.pictures import restore
from helpers.comfyui.run import Run
from helpers.comfyui.server import ComfyServer

TILES = 6  # of the photo, four times larger
SCALES = 4  # of the tiny model
PIECES = 1  # that the whole canvas is decoded in: the tiny model's tiles are smaller than a piece


@pytest.mark.parametrize(
    ("settings", "pieces"),
    [({}, SCALES + 1), ({"refine_strength": 0.0}, SCALES), ({"guidance": 0.0}, SCALES + 1)],
)
def test_upscale_counts_scales_and_refiner_of_every_tile_and_decoding(
    server: ComfyServer, uploaded: str, settings: dict[str, float], pieces: int
) -> None:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=201, **settings))
    check_bar(restore(server, graph), "upscale", TILES * pieces + PIECES)


def test_upscale_counts_the_tiles_of_all_pictures(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    batch = graph.add("batch", "RepeatImageBatch", image=graph.picture(uploaded), amount=2)
    graph.save(graph.upscale(graph.load(), batch, seed=202))
    check_bar(restore(server, graph), "upscale", 2 * (TILES * (SCALES + 1) + PIECES))


def test_every_stage_counts_its_pieces(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    # A scale of their own makes these stages run, whatever ran before.
    encoded = graph.encode(model, image, scale=3.75)
    sampled = graph.sample(model, graph.prefix(model, image, scale=3.75), seed=203)
    stopped = graph.sample(
        model, ["prefix", 0], node="stopped", seed=203, stop_scale=3, tokens=encoded, first_scale=2
    )
    refined = graph.refine(model, sampled, seed=203)
    graph.save(graph.decode(model, refined), "save decoded")
    graph.save(graph.decode_scales(model, stopped), "save scales")
    run = restore(server, graph)
    pieces = {
        "encode": TILES,
        "prefix": TILES,
        "sample": TILES * SCALES,
        "stopped": TILES * 3,
        "refine": TILES,
        "decode": PIECES,
        "scales": 3 * PIECES,
    }
    for node, count in pieces.items():
        check_bar(run, node, count)


def test_bar_of_a_run_without_work_stays_away(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model = graph.load()
    sampled = graph.sample(model, graph.prefix(model, graph.picture(uploaded)), seed=204)
    graph.save(graph.decode(model, graph.refine(model, sampled, strength=0.0)))
    assert restore(server, graph).progress("refine") == []


def check_bar(run: Run, node: str, total: int) -> None:
    """From the first piece to the last, always towards the same end."""
    steps = run.progress(node)
    assert steps, f"{node} showed no progress"
    assert {maximum for _, maximum in steps} == {total}, node
    values = [value for value, _ in steps]
    assert values[0] == 1, node
    assert values[-1] == total, node
    assert values == sorted(values), node
