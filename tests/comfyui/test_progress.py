"""The bar on a node: it moves while a tile is worked on, never back, and reaches its end."""

from __future__ import annotations

import pytest

from helpers.comfyui.graphs import Graph
from helpers.comfyui.pictures import restore
from helpers.comfyui.run import Run
from helpers.comfyui.server import ComfyServer

BAR = 1000  # steps, whatever is done


@pytest.mark.parametrize(
    "settings",
    [{}, {"refine_strength": 0.0}, {"guidance": 0.0}, {"tiling": "lock-step"}, {"scale": 1.0}],
    ids=str,
)
def test_bar_of_an_upscale_reaches_its_end(
    server: ComfyServer, uploaded: str, settings: dict[str, float | str]
) -> None:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=201, **settings))
    check_bar(restore(server, graph), "upscale")


def test_bar_of_several_pictures_reaches_its_end_once(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    batch = graph.add("batch", "RepeatImageBatch", image=graph.picture(uploaded), amount=3)
    graph.save(graph.upscale(graph.load(), batch, seed=202))
    check_bar(restore(server, graph), "upscale")


def test_bars_of_every_stage_reach_their_ends(server: ComfyServer, uploaded: str) -> None:
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
    for node in ("encode", "prefix", "sample", "stopped", "refine", "decode", "scales"):
        check_bar(run, node)


def test_bar_moves_within_a_single_tile(server: ComfyServer, uploaded: str) -> None:
    """Of the built-in model, which takes long enough for ComfyUI to pass several steps on."""
    graph = Graph()
    model = graph.load("varsr_nano (built in)")
    graph.save(graph.upscale(model, graph.picture(uploaded), seed=205, scale=1.0))
    run = restore(server, graph)
    values = {value for value, _ in check_bar(run, "upscale")}
    assert len(values) > 4


def test_bar_of_a_run_without_work_stays_away(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model = graph.load()
    sampled = graph.sample(model, graph.prefix(model, graph.picture(uploaded)), seed=204)
    graph.save(graph.decode(model, graph.refine(model, sampled, strength=0.0)))
    assert restore(server, graph).progress("refine") == []


def check_bar(run: Run, node: str) -> list[tuple[float, float]]:
    """From the begin to the end, always towards the same end, in whole steps."""
    steps = run.progress(node)
    assert steps, f"{node} showed no progress"
    assert {maximum for _, maximum in steps} == {BAR}, node
    values = [value for value, _ in steps]
    assert values[0] == 0, node
    assert values[-1] == BAR, node
    assert values.count(BAR) == 1, node
    assert values == sorted(values), node
    assert all(isinstance(value, int) for value in values), node
    return steps
