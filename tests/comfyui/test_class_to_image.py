"""VARSR Class to Image in real hosts: pictures, tokens, batches, and wrong models by name."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.comfyui.graphs import Graph
from helpers.comfyui.pictures import dumped, failing, restore
from helpers.comfyui.server import ComfyServer

CLASSES = "classes.safetensors"
TILE, SCALES = 64, 4


def test_class_becomes_a_picture_that_varsr_upscales(server: ComfyServer) -> None:
    graph = Graph()
    made = graph.class_to_image(graph.load(CLASSES), seed=91)
    graph.dump(made)
    graph.dump(graph.upscale(graph.load(node="varsr"), made, scale=2.0), "large")
    run = restore(server, graph)
    assert dumped(run).shape == (1, TILE, TILE, 3)
    assert dumped(run).std() > 0.01
    assert dumped(run, "large").shape == (1, 2 * TILE, 2 * TILE, 3)
    told = [
        e.data for e in run.events if e.type == "varsr.progress" and e.data["node"] == "classes"
    ]
    assert told[-1]["done"] == told[-1]["total"]
    assert len(told[-1]["tiles"]) == SCALES


def test_batch_equals_singles_and_tokens_decode_and_go_on(server: ComfyServer) -> None:
    graph = Graph()
    model = graph.load(CLASSES)
    batch = graph.class_to_image(model, pictures=2, seed=92)
    graph.dump(batch)
    graph.dump(graph.class_to_image(model, seed=93, node="single"), "second")
    graph.dump(graph.decode(model, [batch[0], 1]), "decoded")
    part = graph.class_to_image(model, pictures=2, seed=92, stop_scale=2, node="part")
    on = {"tokens": [part[0], 1], "first_scale": 2, "node": "on"}
    graph.dump(graph.class_to_image(model, pictures=2, seed=92, **on), "resumed")
    run = restore(server, graph)
    whole = dumped(run)
    np.testing.assert_array_equal(whole[1:], dumped(run, "second"))
    np.testing.assert_array_equal(whole, dumped(run, "decoded"))
    np.testing.assert_array_equal(whole, dumped(run, "resumed"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("VARSR_Upscale", ["model is VARSR_C2I", "VARSR Class to Image node"]),
        ("VARSR_EncodePrefix", ["model is VARSR_C2I", "VARSR Class to Image node"]),
        ("VARSR_AsUpscaleModel", ["model is VARSR_C2I", "VARSR Class to Image node"]),
        ("VARSR_ClassToImage", ["knows no labels", "VARSR_C2I.pth", "VARSR Upscale node"]),
    ],
)
def test_wrong_model_is_refused_with_the_right_nodes_name(
    server: ComfyServer, uploaded: str, kind: str, words: list[str]
) -> None:
    graph = Graph()
    picture, base = graph.picture(uploaded), graph.load(CLASSES)
    if kind == "VARSR_Upscale":
        graph.dump(graph.upscale(base, picture))
    elif kind == "VARSR_EncodePrefix":
        model = graph.load(node="varsr")
        tokens = graph.sample(model, graph.prefix(base, picture))
        graph.dump(graph.decode(model, tokens))
    elif kind == "VARSR_AsUpscaleModel":
        choices = graph.upscale(base, picture)
        taken = graph.pop(choices[0])["inputs"]
        names = ("model", "seed", "guidance", "color_fix", "color_strength", "guidance_schedule",
                 "top_k", "top_p", "temperature", "refine_steps", "refine_strength", "tiling",
                 "overlap")  # fmt: skip
        wrapped = graph.add("wrapped", kind, **{name: taken[name] for name in names})
        graph.dump(graph.add("use", "ImageUpscaleWithModel", upscale_model=wrapped, image=picture))
    else:
        graph.dump(graph.class_to_image(graph.load(node="varsr")))
    message = failing(server, graph, kind, "InputError")
    assert not [text for text in words if text not in message], message


def test_label_beyond_the_file_is_refused_with_how_many_there_are(server: ComfyServer) -> None:
    graph = Graph()
    graph.dump(graph.class_to_image(graph.load(CLASSES), label=10))
    message = failing(server, graph, "VARSR_ClassToImage", "InputError")
    assert "label 10 is beyond this model, which has 10 labels: 0 to 9" in message
