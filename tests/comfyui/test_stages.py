"""The stages as nodes of their own: together they are Upscale, and they can be taken apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.comfyui.graphs import Graph, Link, staged_graph, stages, upscale_graph
from helpers.comfyui.pictures import dumped, restore, saved_pictures, with_alpha
from helpers.comfyui.server import ComfyServer

SCALES = 4  # of the tiny model
VARIED = {"top_k": 0, "temperature": 1.2}  # every token is drawn, so that a wrong draw shows


@pytest.mark.parametrize(
    ("sampling", "refining"),
    [
        ({}, {}),
        ({**VARIED, "guidance": 3.0, "guidance_schedule": "constant"}, {"guidance": 3.0}),
        ({"guidance": 0.0}, {"guidance": 0.0, "steps": 4, "strength": 0.5}),
        ({"top_k": 8, "top_p": 0.7}, {"strength": 0.0}),
    ],
)
def test_stages_give_the_bits_of_upscale(
    server: ComfyServer,
    uploaded: str,
    sampling: dict[str, float | str],
    refining: dict[str, float],
) -> None:
    whole = {f"refine_{name}": v for name, v in refining.items() if name != "guidance"}
    one = restore(server, upscale_graph(uploaded, seed=3, **sampling, **whole))
    many = restore(server, staged_graph(uploaded, seed=3, sampling=sampling, refining=refining))
    np.testing.assert_array_equal(dumped(many), dumped(one))
    np.testing.assert_array_equal(saved_pictures(server, many), saved_pictures(server, one))


def test_stages_carry_batch_and_alpha_to_the_end(server: ComfyServer, photo: Image.Image) -> None:
    graph = Graph()
    model = graph.load()
    faded = graph.with_alpha(graph.picture(server.upload(with_alpha(photo), "faded.png")))
    batch = graph.add("batch", "RepeatImageBatch", image=faded, amount=2)
    graph.dump(graph.upscale(model, batch), "one")
    graph.dump(stages(graph, model, batch), "many")
    run = restore(server, graph)
    assert dumped(run, "many").shape == (2, 112, 160, 4)
    np.testing.assert_array_equal(dumped(run, "many"), dumped(run, "one"))


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_stages_give_the_bits_of_upscale_in_half_precision(
    server: ComfyServer, uploaded: str, dtype: str
) -> None:
    graph = Graph()
    model, image = graph.load(dtype=dtype), graph.picture(uploaded)
    graph.dump(graph.upscale(model, image), "one")
    graph.dump(stages(graph, model, image), "many")
    run = restore(server, graph)
    np.testing.assert_array_equal(dumped(run, "many"), dumped(run, "one"))


def test_decode_scales_gives_a_picture_per_scale(server: ComfyServer, uploaded: str) -> None:
    graph, model, prefix = with_prefix(uploaded)
    tokens = graph.refine(model, graph.sample(model, prefix))
    graph.dump(graph.decode_scales(model, tokens), "all scales")
    graph.dump(graph.decode(model, tokens), "last scale")
    stopped = graph.sample(model, prefix, node="stopped", stop_scale=2)
    graph.dump(graph.decode(model, stopped, node="decode stopped"), "second scale")
    run = restore(server, graph)
    pictures = dumped(run, "all scales")
    assert pictures.shape == (SCALES, 112, 160, 3)
    np.testing.assert_array_equal(pictures[-1:], dumped(run, "last scale"))
    np.testing.assert_array_equal(pictures[1:2], dumped(run, "second scale"))


@pytest.mark.parametrize("first", range(1, SCALES))
def test_resumed_run_equals_an_unbroken_one(server: ComfyServer, uploaded: str, first: int) -> None:
    graph, model, prefix = with_prefix(uploaded)
    unbroken = graph.sample(model, prefix, node="unbroken", **VARIED)
    stopped = graph.sample(model, prefix, node="stopped", stop_scale=first, **VARIED)
    resumed = graph.sample(
        model, prefix, node="resumed", tokens=stopped, first_scale=first, **VARIED
    )
    for name, tokens in (("unbroken", unbroken), ("resumed", resumed)):
        refined = graph.refine(model, tokens)
        graph[f"refine {name}"] = graph.pop(refined[0])
        graph.dump(graph.decode(model, [f"refine {name}", 0], node=f"{name} picture"), name + "!")
    run = restore(server, graph)
    np.testing.assert_array_equal(dumped(run, "resumed!"), dumped(run, "unbroken!"))


def test_first_scales_of_an_encoded_picture_are_kept(server: ComfyServer, uploaded: str) -> None:
    kept = 2
    graph, model, prefix = with_prefix(uploaded, tiling="independent")  # decoded as tokens are
    encoded = graph.encode(model, graph.picture(uploaded))
    sampled = graph.sample(model, prefix, tokens=encoded, first_scale=kept)
    graph.dump(graph.decode_scales(model, encoded, node="scales encoded"), "encoded")
    graph.dump(graph.decode_scales(model, sampled, node="scales sampled"), "sampled")
    free = graph.sample(model, prefix, node="free")
    graph.dump(graph.decode_scales(model, free, node="scales free"), "free!")
    run = restore(server, graph)
    encoded, sampled, free = (dumped(run, node) for node in ("encoded", "sampled", "free!"))
    np.testing.assert_array_equal(sampled[:kept], encoded[:kept])
    assert np.abs(sampled[kept:] - encoded[kept:]).max() > 0.01
    assert np.abs(sampled - free).max() > 0.01


def test_tokens_that_keep_encoded_scales_can_be_refined(server: ComfyServer, uploaded: str) -> None:
    graph, model, prefix = with_prefix(uploaded)
    encoded = graph.encode(model, graph.picture(uploaded))
    sampled = graph.sample(model, prefix, tokens=encoded, first_scale=SCALES - 1)
    graph.dump(graph.decode(model, sampled), "plain")
    graph.dump(graph.decode(model, graph.refine(model, sampled), node="fine"), "refined")
    run = restore(server, graph)
    assert np.abs(dumped(run, "refined") - dumped(run, "plain")).max() > 0.01


@pytest.mark.parametrize(("scale", "size"), [(4.0, (112, 160)), (1.0, (28, 40))])
def test_encoded_picture_decodes_to_scale_times_its_size(
    server: ComfyServer, uploaded: str, scale: float, size: tuple[int, int]
) -> None:
    graph = Graph()
    model = graph.load()
    encoded = graph.encode(model, graph.picture(uploaded), scale=scale)
    graph.dump(graph.decode(model, encoded))
    image = dumped(restore(server, graph))
    assert image.shape == (1, *size, 3)
    assert np.isfinite(image).all()


def test_refined_tokens_may_be_refined_again(server: ComfyServer, uploaded: str) -> None:
    graph, model, prefix = with_prefix(uploaded)
    once = graph.refine(model, graph.sample(model, prefix))
    graph.dump(graph.decode(model, once), "once")
    graph["again"] = {"class_type": "VARSR_Refine", "inputs": dict(graph["refine"]["inputs"])}
    graph["again"]["inputs"]["tokens"] = once
    graph.dump(graph.decode(model, ["again", 0], node="decode again"), "twice")
    run = restore(server, graph)
    np.testing.assert_array_equal(dumped(run, "twice"), dumped(run, "once"))


@pytest.mark.parametrize("mode", ["adain", "wavelet", "none"])
def test_colour_modes_do_the_same_in_both_places(
    server: ComfyServer, uploaded: str, mode: str
) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    graph.dump(graph.upscale(model, image, color_fix=mode), "one")
    matched = stages(graph, model, image)
    graph[matched[0]]["inputs"]["mode"] = mode
    graph.dump(matched, "many")
    run = restore(server, graph)
    np.testing.assert_array_equal(dumped(run, "many"), dumped(run, "one"))


def with_prefix(uploaded: str, **settings: Any) -> tuple[Graph, Link, Link]:
    """A graph up to the prefix: the graph, the model, the prefix."""
    graph = Graph()
    model = graph.load()
    return graph, model, graph.prefix(model, graph.picture(uploaded), **settings)
