"""Pictures for the slider: kept without loss, in bounds, and never at the price of the result."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.comfyui.graphs import Graph
from helpers.comfyui.inside import told_inside
from helpers.comfyui.pictures import restore, saved_pictures
from helpers.comfyui.server import HOST_VERSIONS, ComfyServer


@pytest.fixture(scope="module", params=HOST_VERSIONS)
def measured(
    request: pytest.FixtureRequest,
    hosts: dict[str, Path],
    pack_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What pictures_inside.py prints."""
    base = tmp_path_factory.mktemp("pictures")
    return told_inside("pictures_inside", hosts, request.param, pack_dir, base)


def test_film_fills_neither_disk_nor_time(measured: dict[str, Any]) -> None:
    assert measured["frames"] == 16
    assert measured["large"] == measured["in all"] // (2 * 2000 * 2000)


def test_list_of_pictures_counts_as_one_batch(measured: dict[str, Any]) -> None:
    """ComfyUI calls the node for each of them; the next run begins anew."""
    assert measured["list"] == [7, 7, 2, 0]
    assert measured["next run"] == 7


def test_whole_pictures_are_kept_bit_by_bit(measured: dict[str, Any]) -> None:
    assert len(measured["kinds"]) == 4
    assert all(measured["kinds"].values()), measured["kinds"]


def test_node_shows_a_small_copy(measured: dict[str, Any]) -> None:
    assert measured["sizes"] == [[1024, 731]] * 2


def masked(seed: int) -> Graph:
    """Two pictures one after the other, of which the mask of the first selects nothing."""
    graph = Graph()
    size = {"width": 20, "height": 16, "batch_size": 1}
    black = graph.add("black", "EmptyImage", **size, color=0)
    white = graph.add("white", "EmptyImage", **size, color=0xFFFFFF)
    both = graph.add("both", "ImageBatch", image1=black, image2=white)
    each = graph.add("each", "RebatchImages", images=both, batch_size=1)
    mask = graph.add("mask", "ImageToMask", image=each, channel="red")
    graph.save(graph.upscale(graph.load(), each, mask=mask, seed=seed, scale=1.0))
    return graph


def test_note_about_one_picture_of_a_list_does_not_lose_the_others(server: ComfyServer) -> None:
    run = restore(server, masked(seed=1001))
    assert len(saved_pictures(server, run)) == 2
    shown = run.shown("upscale")
    assert len(shown["varsr_note"]) == 1
    assert len(shown["varsr_comparison"]) == 2
    assert shown["varsr_pictures"] == [1, 1]


def test_result_is_there_when_nothing_can_be_kept(server: ComfyServer, uploaded: str) -> None:
    """A file where the folder should be: any disk that is full or locked does the same."""
    folder = server.base / "temp" / "varsr"
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("in the way")
    try:
        graph = Graph()
        graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=1002, scale=1.0))
        run = restore(server, graph)
    finally:
        folder.unlink()
    assert saved_pictures(server, run)[0].shape == (28, 40, 3)
    assert run.shown("upscale")["varsr_comparison"] == []
    assert "No pictures for the slider" in server.log


def test_pictures_are_no_results_of_the_run(server: ComfyServer, uploaded: str) -> None:
    """ComfyUI counts what looks like a file in the list of its jobs."""
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=1003, scale=1.0))
    shown = restore(server, graph).shown("upscale")
    assert shown["varsr_comparison"]
    assert not [item for items in shown.values() for item in items if isinstance(item, dict)]


def test_first_picture_is_the_one_that_went_in(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=1004))
    run = restore(server, graph)
    ((_, (before, after), size),) = run.shown("upscale")["varsr_comparison"]
    assert size == [160, 112]
    assert np.asarray(server.view(before)).shape == (28, 40, 3)
    assert np.array_equal(np.asarray(server.view(after)), saved_pictures(server, run)[0])
