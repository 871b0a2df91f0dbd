"""What runs again when a graph is queued again: what changed, and what depends on it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from helpers.comfyui.graphs import staged_graph, upscale_graph
from helpers.comfyui.pictures import dumped, restore
from helpers.comfyui.server import ComfyServer


def test_second_run_of_a_graph_executes_nothing(server: ComfyServer, uploaded: str) -> None:
    graph = staged_graph(uploaded, seed=101)
    first = restore(server, graph)
    second = restore(server, graph)
    assert "sample" in first.executed_nodes
    assert second.executed_nodes == []
    assert set(second.cached_nodes) == set(graph)
    assert second.images("save") == first.images("save")


def test_another_seed_keeps_model_and_prefix(server: ComfyServer, uploaded: str) -> None:
    restore(server, staged_graph(uploaded, seed=111))
    run = restore(server, staged_graph(uploaded, seed=112))
    assert set(run.cached_nodes) == {"load", "picture", "prefix"}
    assert set(run.executed_nodes) == {"sample", "refine", "decode", "match", "save", "dump"}


def test_another_refiner_strength_keeps_the_sampled_tokens(
    server: ComfyServer, uploaded: str
) -> None:
    restore(server, staged_graph(uploaded, seed=121))
    run = restore(server, staged_graph(uploaded, seed=121, refining={"strength": 0.4}))
    assert set(run.executed_nodes) == {"refine", "decode", "match", "save", "dump"}


def test_another_colour_mode_keeps_everything_before_it(server: ComfyServer, uploaded: str) -> None:
    graph = staged_graph(uploaded, seed=131)
    restore(server, graph)
    graph["match"]["inputs"]["mode"] = "wavelet"
    assert set(restore(server, graph).executed_nodes) == {"match", "save", "dump"}


def test_replaced_checkpoint_is_loaded_again(
    server: ComfyServer, uploaded: str, checkpoints: Path
) -> None:
    graph = upscale_graph(uploaded, "replaced.safetensors", seed=141)
    replace(server, checkpoints / "micro.safetensors", "replaced.safetensors")
    before = restore(server, graph)
    assert restore(server, graph).executed_nodes == []
    replace(server, checkpoints / "other.safetensors", "replaced.safetensors")
    after = restore(server, graph)
    assert "load" in after.executed_nodes
    assert np.abs(dumped(after) - dumped(before)).max() > 0.01
    wanted = restore(server, upscale_graph(uploaded, "other.safetensors", seed=141))
    np.testing.assert_array_equal(dumped(after), dumped(wanted))


def test_replaced_tokenizer_beside_a_released_file_is_loaded_again(
    server: ComfyServer, uploaded: str, checkpoints: Path
) -> None:
    release = checkpoints.parent / "other"
    graph = upscale_graph(uploaded, "release/VARSR.pth", seed=151)
    replace(server, checkpoints / "VARSR.pth", "release/VARSR.pth")
    replace(server, checkpoints / "VQVAE.pth", "release/VQVAE.pth")
    before = restore(server, graph)
    replace(server, release / "VQVAE.pth", "release/VQVAE.pth")
    after = restore(server, graph)
    assert "load" in after.executed_nodes
    assert np.abs(dumped(after) - dumped(before)).max() > 0.01


def replace(server: ComfyServer, source: Path, name: str) -> None:
    """Puts a model file in place as a download does: whole, under its final name last."""
    target = server.base / "models" / "varsr" / name
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(target.name + ".part")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)
