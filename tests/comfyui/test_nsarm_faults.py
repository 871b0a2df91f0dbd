"""NSARM nodes when something is wrong, stopped, changed or queued again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from helpers.comfyui.graphs import Graph
from helpers.comfyui.graphs import upscale_graph as varsr_graph
from helpers.comfyui.nsarm_checkpoints import write_nsarm
from helpers.comfyui.nsarm_graphs import NSARMGraph, staged_graph, upscale_graph
from helpers.comfyui.pictures import dumped, failing, restore, structured_picture
from helpers.comfyui.run import Event
from helpers.comfyui.server import ComfyServer

PATIENCE = 3.0  # seconds from Cancel to the end
FAULTS = {  # file -> what its error says beside the file's name
    "broken/truncated.pth": ["truncated or no checkpoint", "download it again"],
    "broken/truncated.safetensors": ["truncated or no safetensors", "convert it again"],
    "broken/infinity.pth": ["plain Infinity checkpoint", "no map network", "Use NSARM.pth"],
    "broken/maps.safetensors": ["only a part of the transformer"],
    "broken/alone.pth": ["only the transformer", "infinity_vae_d56_f8_14_patchify.pth"],
    "broken/incomplete/NSARM.pth": ["transformer.blocks.1.fc1.weight"],
    "broken/shape/NSARM.pth": ["do not fit the rest of the NSARM model"],
    "infinity_vae_d56_f8_14_patchify.pth": ["only the autoencoder", "choose the transformer"],
    "varsr.safetensors": ["of VARSR, not of NSARM", "use the Load VARSR Model node"],
}


@pytest.fixture(scope="module", autouse=True)
def models(server: ComfyServer, checkpoints: Path) -> Path:
    folder = server.base / "models"
    shutil.rmtree(folder / "nsarm", ignore_errors=True)  # of another file of tests
    write_nsarm(folder)
    shutil.copy(checkpoints / "micro.safetensors", folder / "nsarm" / "varsr.safetensors")
    return folder / "nsarm"


@pytest.mark.parametrize(("file", "words"), FAULTS.items())
def test_unusable_file_is_refused_with_a_remedy(
    server: ComfyServer, uploaded: str, file: str, words: Sequence[str]
) -> None:
    message = failing(server, upscale_graph(uploaded, file), "NSARM_LoadModel", "CheckpointError")
    assert Path(file).name in message
    assert not [text for text in words if text not in message], message


@pytest.mark.parametrize("file", ["nsarm.safetensors", "NSARM.pth"])
def test_the_loader_of_varsr_refuses_nsarm_by_name(
    server: ComfyServer, uploaded: str, file: str
) -> None:
    message = failing(server, varsr_graph(uploaded, file), "VARSR_LoadModel", "CheckpointError")
    assert f"{file} is a checkpoint of NSARM, not of VARSR" in message
    assert "use the Load NSARM Model node" in message


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("NaN", "contains NaN or infinite pixels"),
        ("too bright", "0 to 1 is expected"),
        ("no picture", "at least one of at least one pixel is expected"),
    ],
)
@pytest.mark.parametrize("node", ["NSARM_Upscale", "NSARM_Prefix"])
def test_bad_picture_is_refused_before_work(
    server: ComfyServer, uploaded: str, node: str, fault: str, words: str
) -> None:
    graph = NSARMGraph()
    model, image = graph.load(), graph.spoil(graph.picture(uploaded), fault)
    if node == "NSARM_Upscale":
        graph.dump(graph.upscale(model, image))
    else:
        graph.dump(graph.decode(model, graph.sample(model, graph.prefix(model, image))))
    assert words in failing(server, graph, node, "InputError")


def test_output_beyond_the_limit_is_refused(server: ComfyServer, uploaded: str) -> None:
    graph = upscale_graph(uploaded, size_by="megapixels", target=16000.0)
    assert "the limit is" in failing(server, graph, "NSARM_Upscale", "InputError")


def test_sockets_of_the_families_do_not_fit(server: ComfyServer, uploaded: str) -> None:
    graph = NSARMGraph()
    model = graph.load()
    graph.save(Graph.upscale(graph, model, graph.picture(uploaded)))
    run = server.run(graph)
    assert run.status == 400
    assert run.node_errors["upscale"]["errors"][0]["type"] == "return_type_mismatch"


def test_stages_of_two_models_are_refused(server: ComfyServer, uploaded: str) -> None:
    graph = NSARMGraph()
    model, other = graph.load(), graph.load("other.safetensors", node="other")
    bits = graph.sample(other, graph.prefix(model, graph.picture(uploaded)))
    graph.dump(graph.decode(model, bits))
    message = failing(server, graph, "NSARM_Sample", "InputError")
    assert "connect the same Load NSARM Model to every stage" in message


def test_second_run_executes_nothing_and_another_seed_only_what_depends_on_it(
    server: ComfyServer, uploaded: str
) -> None:
    first = restore(server, staged_graph(uploaded, seed=2011))
    again = restore(server, staged_graph(uploaded, seed=2011))
    assert "sample" in first.executed_nodes
    assert again.executed_nodes == []
    run = restore(server, staged_graph(uploaded, seed=2012))
    assert set(run.cached_nodes) == {"load", "picture", "prefix"}
    assert np.abs(dumped(run) - dumped(first)).max() > 0.01


def test_replaced_autoencoder_beside_a_released_file_is_loaded_again(
    server: ComfyServer, uploaded: str, models: Path
) -> None:
    release = models / "release"
    release.mkdir()
    for folder in (models, models.parent / "elsewhere"):
        for file in ("NSARM.pth", "infinity_vae_d56_f8_14_patchify.pth"):
            if file != "NSARM.pth" or folder == models:
                shutil.copy(folder / file, release / f"{file}.part")
                (release / f"{file}.part").replace(release / file)
        run = restore(server, upscale_graph(uploaded, "release/NSARM.pth", seed=2021))
        assert "load" in run.executed_nodes


@pytest.mark.parametrize("stage", ["prefix", "sample", "decode", "upscale"])
def test_interrupted_node_stops_at_once_and_the_queue_goes_on(
    server: ComfyServer, uploaded: str, stage: str
) -> None:
    large = server.upload(structured_picture(400, 400), "nsarm_large.png")
    graph = NSARMGraph()
    model, image = graph.load(), graph.picture(large)
    if stage == "upscale":
        graph.save(graph.upscale(model, image, seed=2031))
    else:
        prefix = graph.prefix(model, image, scale=8.0 if stage == "prefix" else 3.0)
        graph.save(graph.decode(model, graph.sample(model, prefix, seed=2032)))
    pressed: list[float] = []

    def when(event: Event) -> bool:
        if event.type == "progress" and event.data["node"] == stage:
            pressed.append(time.monotonic())
        return bool(pressed)

    run = server.run(graph, interrupt_when=when)
    assert run.interrupted, run.error or "the run went on to its end"
    assert time.monotonic() - pressed[0] < PATIENCE
    value, maximum = run.progress(stage)[-1]
    assert value < maximum
    restore(server, upscale_graph(uploaded, seed=2033))
