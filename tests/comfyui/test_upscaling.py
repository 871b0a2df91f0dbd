"""VARSR Upscale on pictures of every kind, as a user gets them saved."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.comfyui.graphs import Graph, upscale_graph
from helpers.comfyui.pictures import (
    as_saved,
    core_upscale,
    dumped,
    restore,
    saved_pictures,
    structured_picture,
    with_alpha,
)
from helpers.comfyui.run import Run
from helpers.comfyui.server import ComfyServer
from varsr_core.images.alpha import enlarge_alpha

TOLERANCE = 1e-5  # float32 on one machine, within and without ComfyUI


def restore_afresh(server: ComfyServer, graph: Graph) -> Run:
    """The same with nothing left of earlier runs, neither models nor results."""
    for _ in range(50):
        server.free(unload_models=True, free_memory=True)
        time.sleep(0.1)  # the server frees a moment after it answered
        run = restore(server, graph)
        if not run.cached_nodes:
            return run
    raise TimeoutError("the server did not drop its results")


@pytest.mark.parametrize(("scale", "size"), [(4.0, (160, 112)), (1.0, (40, 28)), (2.75, (110, 77))])
def test_saved_picture_is_scale_times_the_input(
    server: ComfyServer, uploaded: str, scale: float, size: tuple[int, int]
) -> None:
    run = restore(server, upscale_graph(uploaded, scale=scale))
    (image,) = run.images("save")
    picture = server.view(image)
    assert (picture.mode, picture.size) == ("RGB", size)


def test_result_is_what_the_core_computes_without_comfyui(
    server: ComfyServer, uploaded: str, photo: Image.Image, checkpoints: Path
) -> None:
    run = restore(server, upscale_graph(uploaded, seed=11))
    wanted = core_upscale(checkpoints / "micro.safetensors", photo, 4.0, 11)
    np.testing.assert_allclose(dumped(run)[0], wanted, rtol=0, atol=TOLERANCE)
    (saved,) = saved_pictures(server, run)
    assert np.abs(saved.astype(int) - as_saved(wanted)).max() <= 1


def test_large_tiles_give_what_the_core_computes(server: ComfyServer, checkpoints: Path) -> None:
    photo = structured_picture(48, 30, phase=2.0)
    graph = upscale_graph(server.upload(photo, "large.png"), "small.safetensors")
    run = restore(server, graph)
    wanted = core_upscale(checkpoints / "small.safetensors", photo, 4.0, 0)
    np.testing.assert_allclose(dumped(run)[0], wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", ["auto", "bf16", "fp16"])
def test_every_precision_gives_a_picture(server: ComfyServer, uploaded: str, dtype: str) -> None:
    image = dumped(restore(server, upscale_graph(uploaded, dtype=dtype)))
    assert image.shape == (1, 112, 160, 3)
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.std() > 0.01


def test_released_and_converted_files_give_the_same_picture(
    server: ComfyServer, uploaded: str
) -> None:
    released = restore(server, upscale_graph(uploaded, "VARSR.pth"))
    converted = restore(server, upscale_graph(uploaded, "micro.safetensors"))
    # Not to the bit: where a tensor lies in its file decides which of equal kernels adds it up.
    np.testing.assert_allclose(dumped(released), dumped(converted), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_picture_gives_what_its_rgb_copy_gives(
    server: ComfyServer, photo: Image.Image, channels: int
) -> None:
    graph = Graph()
    picture = graph.picture(server.upload(photo.convert("L"), "grey.png"))
    grey = graph.channels(picture, channels)
    graph.dump(graph.upscale(graph.load(), grey))
    image = dumped(restore(server, graph))
    rgb = dumped(restore(server, upscale_graph("grey.png")))
    assert image.shape == (1, 112, 160, 3)
    np.testing.assert_array_equal(image, rgb)


def test_alpha_is_enlarged_beside_the_colours(server: ComfyServer, photo: Image.Image) -> None:
    faded = with_alpha(photo)
    name = server.upload(faded, "faded.png")
    graph = Graph()
    result = graph.upscale(graph.load(), graph.with_alpha(graph.picture(name)))
    graph.save(result)
    (saved,) = saved_pictures(server, restore(server, graph))
    assert saved.shape == (112, 160, 4)
    # Colours follow those of the input as far as they are seen.
    means = [
        np.average(image[..., :3], axis=(0, 1), weights=image[..., 3])
        for image in (saved, np.array(faded))
    ]
    np.testing.assert_allclose(*means, atol=4)
    given = torch.from_numpy(np.array(faded.getchannel("A")))[None, None] / 255
    wanted = enlarge_alpha(given, 112, 160)[0, 0].numpy() * 255
    assert np.abs(saved[..., 3] - wanted).max() <= 1  # Save Image cuts off


def test_every_picture_of_a_batch_is_restored_as_if_alone(
    server: ComfyServer, uploaded: str, photo: Image.Image
) -> None:
    second = server.upload(structured_picture(*photo.size, phase=1.0), "second.png")
    graph = Graph()
    pictures = [graph.picture(uploaded, "one"), graph.picture(second, "two")]
    batch = graph.add("batch", "ImageBatch", image1=pictures[0], image2=pictures[1])
    result = graph.upscale(graph.load(), batch)
    graph.save(result)
    graph.dump(result)
    run = restore(server, graph)
    assert len(run.images("save")) == 2
    images = dumped(run)
    for image, name in zip(images, (uploaded, second), strict=True):
        np.testing.assert_array_equal(image, dumped(restore(server, upscale_graph(name)))[0])


def test_copies_in_a_batch_stay_alike(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    batch = graph.add("batch", "RepeatImageBatch", image=graph.picture(uploaded), amount=3)
    graph.dump(graph.upscale(graph.load(), batch, top_k=0))
    images = dumped(restore(server, graph))
    assert len(images) == 3
    np.testing.assert_array_equal(images, images[[0, 0, 0]])


def test_same_seed_gives_the_same_pixels_when_run_again(server: ComfyServer, uploaded: str) -> None:
    graph = upscale_graph(uploaded, seed=31, top_k=0)
    first = dumped(restore(server, graph))
    again = restore_afresh(server, graph)
    assert set(again.executed_nodes) == set(graph)
    np.testing.assert_array_equal(dumped(again), first)


@pytest.mark.parametrize("settings", [{"top_k": 0}, {"top_k": 1}])
def test_another_seed_gives_other_pixels(
    server: ComfyServer, uploaded: str, settings: dict[str, int]
) -> None:
    first, second = (
        dumped(restore(server, upscale_graph(uploaded, seed=seed, **settings))) for seed in (41, 42)
    )
    assert np.abs(first - second).max() > 0.01


def test_greatest_seed_works(server: ComfyServer, uploaded: str) -> None:
    assert np.isfinite(dumped(restore(server, upscale_graph(uploaded, seed=2**64 - 1)))).all()


def test_models_that_comfyui_unloaded_are_loaded_again(
    server: ComfyServer, uploaded: str, photo: Image.Image, checkpoints: Path
) -> None:
    graph = upscale_graph(uploaded, seed=51)
    graph.add("models", "PROBE_LoadedModels")

    def loaded_models() -> int:
        return restore(server, graph).outputs["models"]["count"][0]

    restore(server, graph)
    assert loaded_models() > 0
    for _ in range(50):
        server.free(unload_models=True)
        time.sleep(0.1)
        if loaded_models() == 0:
            break
    assert loaded_models() == 0
    graph["upscale"]["inputs"]["seed"] = 52
    run = restore(server, graph)
    assert "load" in run.cached_nodes
    wanted = core_upscale(checkpoints / "micro.safetensors", photo, 4.0, 52)
    np.testing.assert_allclose(dumped(run)[0], wanted, rtol=0, atol=TOLERANCE)
