"""What no socket takes, and masks that select nothing, on real servers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers.comfyui.graphs import Graph, Link
from helpers.comfyui.nsarm_checkpoints import write_nsarm
from helpers.comfyui.nsarm_graphs import NSARMGraph
from helpers.comfyui.pictures import dumped, failing, restore, structured_picture, with_alpha
from helpers.comfyui.server import ComfyServer
from helpers.each import each

FAMILIES = {"VARSR": Graph, "NSARM": NSARMGraph}


@pytest.fixture(scope="module", autouse=True)
def models(server: ComfyServer) -> None:
    if not (server.base / "models" / "nsarm").exists():
        write_nsarm(server.base / "models")


@each("family", FAMILIES)
@pytest.mark.parametrize("kind", ["3 dimensions", "5 dimensions", "whole numbers", "nothing"])
def test_what_is_no_picture_is_refused(
    server: ComfyServer, uploaded: str, family: str, kind: str
) -> None:
    graph = FAMILIES[family]()
    graph.dump(graph.upscale(graph.load(), graph.strange(graph.picture(uploaded), kind)))
    message = failing(server, graph, f"{family}_Upscale", "InputError")
    assert message.startswith("image ")


@each("socket", ["mask", "alpha"])
@pytest.mark.parametrize("kind", ["1 dimension", "5 dimensions", "mask of 4 channels", "a list"])
def test_what_is_no_mask_is_refused(
    server: ComfyServer, uploaded: str, socket: str, kind: str
) -> None:
    graph = Graph()
    image = graph.picture(uploaded)
    graph.dump(graph.upscale(graph.load(), image, **{socket: graph.strange(image, kind)}))
    assert failing(server, graph, "VARSR_Upscale", "InputError").startswith(f"{socket} ")


def test_mask_with_an_axis_of_one_channel_is_a_mask(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    channel = graph.strange(image, "mask of 1 channel")
    plain = graph.add("red", "ImageToMask", image=image, channel="red")
    graph.dump(graph.upscale(model, image, mask=channel), "one")
    graph.dump(graph.upscale(model, image, mask=plain, node="other"), "two")
    run = restore(server, graph)
    assert np.array_equal(dumped(run, "one"), dumped(run, "two"))


@each("socket", ["model", "tokens"])
@each("kind", ["nothing", "picture", "a text"])
def test_object_of_another_kind_is_refused(
    server: ComfyServer, uploaded: str, socket: str, kind: str
) -> None:
    graph = Graph()
    strange = graph.strange(graph.picture(uploaded), kind)
    given = {"model": graph.load(), "tokens": strange, socket: strange}
    graph.dump(graph.decode(given["model"], given["tokens"]))
    assert failing(server, graph, "VARSR_Decode", "InputError").startswith(f"{socket} ")


def upscaled(server: ComfyServer, family: str, mask: Link, picture: str) -> tuple[Graph, Link]:
    graph = FAMILIES[family]()
    result = graph.upscale(graph.load(), graph.picture(picture), mask=mask, color_fix="none")
    graph.dump(result)
    return graph, result


@each("family", FAMILIES)
def test_mask_of_an_opaque_picture_says_that_nothing_is_selected(
    server: ComfyServer, family: str
) -> None:
    """Load Image's MASK, wired into the wrong socket; it is 0 where the picture is opaque."""
    opaque = structured_picture(40, 28)
    opaque.putalpha(255)
    name = server.upload(opaque, "opaque.png")
    graph, _ = upscaled(server, family, ["picture", 1], name)
    before = len(server.log)
    run = restore(server, graph)
    (note,) = run.shown("upscale")["varsr_note"]
    assert "nothing was restored" in note
    assert "alpha" in note
    assert note in server.log[before:]
    assert dumped(run).shape == (1, 112, 160, 3)


@each("family", FAMILIES)
def test_placeholder_of_load_image_is_refused_as_a_mask(
    server: ComfyServer, uploaded: str, family: str
) -> None:
    graph, _ = upscaled(server, family, ["picture", 1], uploaded)
    message = failing(server, graph, f"{family}_Upscale", "InputError")
    assert message.startswith("mask ")
    assert "alpha" in message


def test_mask_of_0_beside_a_picture_of_its_own_size_is_no_placeholder(server: ComfyServer) -> None:
    name = server.upload(structured_picture(64, 64), "as_large_as_the_placeholder.png")
    run = restore(server, upscaled(server, "VARSR", ["picture", 1], name)[0])
    assert "varsr_note" in run.shown("upscale")


def test_mask_that_selects_something_says_nothing(server: ComfyServer) -> None:
    name = server.upload(with_alpha(structured_picture(40, 28)), "fading.png")
    run = restore(server, upscaled(server, "VARSR", ["picture", 1], name)[0])
    assert not run.shown("upscale").get("varsr_note")


def test_nothing_selected_enlarges_plainly(server: ComfyServer) -> None:
    grey = Image.new("RGBA", (32, 24), (77, 77, 77, 255))
    name = server.upload(grey, "grey.png")
    run = restore(server, upscaled(server, "VARSR", ["picture", 1], name)[0])
    assert np.allclose(dumped(run), 77 / 255, atol=1e-5)
