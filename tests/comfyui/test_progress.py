"""The bar on a node: it counts pieces of work, and it reaches its end."""

from __future__ import annotations

import pytest
from comfy_graphs import Graph
from comfy_pictures import restore
from comfy_run import Run
from comfy_server import ComfyServer

TILES = 6  # of the photo, four times larger
SCALES = 4  # of the tiny model


@pytest.mark.parametrize(
    ("settings", "pieces"),
    [({}, SCALES + 2), ({"refine_strength": 0.0}, SCALES + 1), ({"guidance": 0.0}, SCALES + 2)],
)
def test_upscale_counts_scales_refiner_and_decoding_of_every_tile(
    server: ComfyServer, uploaded: str, settings: dict[str, float], pieces: int
) -> None:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=201, **settings))
    check_bar(restore(server, graph), "upscale", TILES * pieces)


def test_upscale_counts_the_tiles_of_all_pictures(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    batch = graph.add("batch", "RepeatImageBatch", image=graph.picture(uploaded), amount=2)
    graph.save(graph.upscale(graph.load(), batch, seed=202))
    check_bar(restore(server, graph), "upscale", 2 * TILES * (SCALES + 2))


def test_every_stage_counts_its_pieces_of_every_tile(server: ComfyServer, uploaded: str) -> None:
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
        "encode": 1,
        "prefix": 1,
        "sample": SCALES,
        "stopped": 3,
        "refine": 1,
        "decode": 1,
        "scales": 3,
    }
    for node, count in pieces.items():
        check_bar(run, node, TILES * count)


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
