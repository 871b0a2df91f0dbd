"""Cancel, pressed while a node works: it stops at once and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.comfyui.graphs import Graph, Link, upscale_graph
from helpers.comfyui.pictures import core_upscale, dumped, restore, structured_picture
from helpers.comfyui.run import Event, Run
from helpers.comfyui.server import ComfyServer

PATIENCE = 3.0  # seconds from Cancel to the end; the whole run takes up to 10
INTERRUPTIONS = 6
GROWTH_LIMIT = 100e6  # bytes after them; one run holds 190 MB of picture and tiles

Build = Callable[[Graph, Link, Link], Link]


@pytest.fixture(scope="module")
def large(server: ComfyServer) -> str:
    """When 3.75 times larger, 9 tiles of 512 pixels or 529 of 64: seconds in every stage."""
    return server.upload(structured_picture(300, 300), "interrupted.png")


def encode(graph: Graph, model: Link, image: Link) -> Link:
    return graph.encode(model, image, scale=3.75)


def prefix(graph: Graph, model: Link, image: Link) -> Link:
    return graph.prefix(model, image, scale=3.75)


def sample(graph: Graph, model: Link, image: Link) -> Link:
    return graph.sample(model, prefix(graph, model, image), seed=301)


def refine(graph: Graph, model: Link, image: Link) -> Link:
    return graph.refine(model, sample(graph, model, image), steps=100)


def decode(graph: Graph, model: Link, image: Link) -> Link:
    return graph.decode(model, sample(graph, model, image))


def decode_scales(graph: Graph, model: Link, image: Link) -> Link:
    return graph.decode_scales(model, sample(graph, model, image))


def upscale(graph: Graph, model: Link, image: Link) -> Link:
    return graph.upscale(model, image, scale=3.75)


SMALL, MICRO = "small.safetensors", "micro.safetensors"


@pytest.mark.parametrize(
    ("build", "checkpoint"),
    [
        (prefix, SMALL),
        (encode, SMALL),
        (sample, MICRO),
        (refine, SMALL),
        (decode, SMALL),
        (decode_scales, SMALL),
        (upscale, SMALL),
        (upscale, MICRO),
    ],
)
def test_interrupted_node_stops_at_once(
    server: ComfyServer, large: str, build: Build, checkpoint: str
) -> None:
    graph = Graph()
    target = build(graph, graph.load(checkpoint), graph.picture(large))
    if target[0] in ("decode", "scales", "upscale"):
        graph.save(target)
    else:
        model: Link = ["load", 0]
        tokens = graph.sample(model, target, node="rest") if target[0] == "prefix" else target
        graph.save(graph.decode(model, tokens, node="never"))

    run, seconds = interrupt_at(server, graph, target[0])
    value, maximum = run.progress(target[0])[-1]
    assert seconds < PATIENCE, f"{value} of {maximum} pieces were done"
    assert value <= maximum / 2, f"it took {seconds:.2f} s"


def test_interruption_is_told_and_the_queue_goes_on(
    server: ComfyServer, large: str, photo: Image.Image, uploaded: str, checkpoints: Path
) -> None:
    run, _ = interrupt_at(server, upscale_graph(large, seed=311), "upscale")
    assert run.history is not None
    last, details = run.history["status"]["messages"][-1]
    assert last == "execution_interrupted"
    assert details["node_type"] == "VARSR_Upscale"
    assert server.queue_length() == 0
    wanted = core_upscale(checkpoints / "micro.safetensors", photo, 4.0, 312)
    image = dumped(restore(server, upscale_graph(uploaded, seed=312)))[0]
    np.testing.assert_allclose(image, wanted, rtol=0, atol=1e-5)


def test_interrupted_graph_runs_to_its_end_when_queued_again(
    server: ComfyServer, uploaded: str
) -> None:
    graph = upscale_graph(uploaded, seed=321, scale=12.0)
    interrupt_at(server, graph, "upscale")
    run = restore(server, graph)
    assert "upscale" in run.executed_nodes
    assert dumped(run).shape == (1, 336, 480, 3)


def test_interruptions_leave_no_memory_behind(server: ComfyServer, large: str) -> None:
    def interrupt(seed: int) -> None:
        interrupt_at(server, upscale_graph(large, scale=8.0, seed=seed), "upscale")

    interrupt(331)  # what is kept for the next run is there now
    before = server.rss_anon()
    for seed in range(332, 332 + INTERRUPTIONS):
        interrupt(seed)
    assert server.rss_anon() - before < GROWTH_LIMIT


def interrupt_at(server: ComfyServer, graph: Graph, node: str) -> tuple[Run, float]:
    """Presses Cancel at the node's first progress; also the seconds until the run had ended."""
    pressed: list[float] = []

    def when(event: Event) -> bool:
        if event.type == "progress" and event.data["node"] == node:
            pressed.append(time.monotonic())
        return bool(pressed)

    run = server.run(graph, interrupt_when=when)
    ended = time.monotonic()
    assert run.interrupted, run.error or "the run went on to its end"
    assert not run.succeeded
    return run, ended - pressed[0]
