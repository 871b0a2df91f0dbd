"""VARSR behind ComfyUI's own node for upscale models."""

from __future__ import annotations

import time

import numpy as np
import pytest

from helpers.comfyui.graphs import SAMPLING, TILING, Graph
from helpers.comfyui.pictures import dumped, restore, structured_picture, with_alpha
from helpers.comfyui.run import Event
from helpers.comfyui.server import ComfyServer

PATIENCE = 5.0  # seconds from Cancel to the end; the whole run takes a minute
SETTINGS = {
    **SAMPLING,
    **TILING,
    "color_fix": "adain",
    "color_strength": 1.0,
    "refine_steps": 10,
    "refine_strength": 1.0,
}


def both(
    picture: str, checkpoint: str = "micro.safetensors", *, joined: bool = False, **settings: object
) -> Graph:
    """The core's node with VARSR, and VARSR Upscale."""
    graph = Graph()
    model, image = graph.load(checkpoint), graph.picture(picture)
    if joined:
        image = graph.with_alpha(image)
    given = SETTINGS | {"seed": 7} | settings
    wrapped = graph.add("wrapped", "VARSR_AsUpscaleModel", model=model, **given)
    enlarged = graph.add("core", "ImageUpscaleWithModel", upscale_model=wrapped, image=image)
    graph.dump(enlarged, "dump core")
    graph.dump(graph.upscale(model, image, **given), "dump own")
    return graph


@pytest.mark.parametrize(
    ("size", "checkpoint"),
    [
        ((100, 70), "micro.safetensors"),
        ((128, 128), "micro.safetensors"),
        ((512, 64), "small.safetensors"),  # as wide as a tile of the core
    ],
)
def test_core_s_node_gives_the_bits_of_varsr_upscale(
    server: ComfyServer, size: tuple[int, int], checkpoint: str
) -> None:
    picture = server.upload(structured_picture(*size), f"wrapped_{size[0]}.png")
    run = server.run(both(picture, checkpoint), timeout=600)
    assert run.succeeded, run.error
    found, wanted = dumped(run, "dump core"), dumped(run, "dump own")
    assert found.shape == (1, 4 * size[1], 4 * size[0], 3)
    assert np.array_equal(found, wanted)


def test_settings_reach_the_picture(server: ComfyServer, uploaded: str) -> None:
    run = restore(server, both(uploaded, preset="faithful", top_k=20, tiling="lock-step"))
    assert np.array_equal(dumped(run, "dump core"), dumped(run, "dump own"))
    other = restore(server, both(uploaded, seed=8, top_k=20))
    assert not np.array_equal(dumped(run, "dump core"), dumped(other, "dump core"))


def test_alpha_is_left_to_the_caller_and_what_it_hides_does_not_show(
    server: ComfyServer,
) -> None:
    picture = server.upload(with_alpha(structured_picture(48, 40)), "wrapped_alpha.png")
    run = restore(server, both(picture, joined=True))
    found, wanted = dumped(run, "dump core"), dumped(run, "dump own")
    assert found.shape[-1] == 3
    assert np.array_equal(found, wanted[..., :3])


def test_bar_is_the_core_s_and_no_preview_is_ours(server: ComfyServer, uploaded: str) -> None:
    run = restore(server, both(uploaded, seed=91))
    assert {maximum for _, maximum in run.progress("core")} == {1}
    assert run.previews_of("core") == []
    assert run.progress("wrapped") == []


def test_cancel_stops_within_a_tile_of_the_core(server: ComfyServer) -> None:
    picture = server.upload(structured_picture(400, 400), "wrapped_large.png")
    graph = both(picture, seed=92)
    del graph["upscale"], graph["dump own"]
    began: list[float] = []

    def when(event: Event) -> bool:
        if event.type == "executing" and event.data.get("node") == "core":
            began.append(time.monotonic())
        return bool(began)

    run = server.run(graph, interrupt_when=when)
    assert run.interrupted, run.error or "the run went on to its end"
    assert time.monotonic() - began[0] < PATIENCE
