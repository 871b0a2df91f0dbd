"""K2N in ComfyUI: loaded and connected, in stages and in one the same, refused where it must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import k2n_files
from helpers.comfyui.graphs import SIZE, TILING, Graph
from helpers.comfyui.pictures import dumped, restore
from helpers.comfyui.server import ComfyServer


@pytest.fixture(scope="module")
def folder(server: ComfyServer) -> Path:
    """k2n/, see write_fitting()."""
    return k2n_files.write_fitting(server.base / "models" / "varsr" / "k2n")


def graph_with(graph: Graph, file: str, varsr: str = "k2n/varsr.safetensors") -> tuple[Any, Any]:
    k2n = graph.add("k2n", "VARSR_LoadK2N", checkpoint=file)
    return graph.load(varsr), k2n


def test_stages_give_the_bits_of_upscale(server: ComfyServer, uploaded: str, folder: Path) -> None:
    graph = Graph()
    model, k2n = graph_with(graph, "k2n/converted.safetensors")
    image = graph.picture(uploaded)
    graph.dump(graph.upscale(model, image, guidance=-1.0, color_fix="none", k2n=k2n), "one")
    choices = {**SIZE, **TILING, "scales": 3, "model": model, "k2n": k2n, "image": image}
    tokens = graph.add("coarse", "VARSR_PredictCoarse", **choices)
    prefix = graph.prefix(model, image)
    sampled = graph.sample(model, prefix, guidance=9.0, tokens=tokens, first_scale=3)
    refined = graph.refine(model, sampled, guidance=9.0)
    graph.dump(graph.decode(model, refined), "many")
    run = restore(server, graph)
    np.testing.assert_array_equal(dumped(run, "many"), dumped(run, "one"))


def test_the_released_file_is_as_good_as_the_converted_one(
    server: ComfyServer, uploaded: str, folder: Path
) -> None:
    made = []
    for file in ("k2n/K2NSR.pth", "k2n/converted.safetensors"):
        graph = Graph()
        model, k2n = graph_with(graph, file)
        graph.dump(graph.upscale(model, graph.picture(uploaded), k2n=k2n), "one")
        made.append(dumped(restore(server, graph), "one"))
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize(
    ("file", "varsr", "said"),
    [
        ("k2n/converted.safetensors", "micro.safetensors", "does not suit K2N"),
        ("k2n/varsr.safetensors", "k2n/varsr.safetensors", "use the Load VARSR Model node"),
        ("k2n/converted.safetensors", "k2n/converted.safetensors", "use the Load K2N Model node"),
        ("K2N (released)", "k2n/varsr.safetensors", "Get VARSR Model"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    server: ComfyServer, uploaded: str, folder: Path, file: str, varsr: str, said: str
) -> None:
    graph = Graph()
    model, k2n = graph_with(graph, file, varsr)
    graph.dump(graph.upscale(model, graph.picture(uploaded), k2n=k2n), "one")
    run = server.run(graph)
    assert not run.succeeded
    assert said in str(run.error or run.body)
