"""The batch command gives what VARSR Upscale gives in ComfyUI, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.comfyui.graphs import Graph, upscale_graph
from helpers.comfyui.pictures import (
    as_saved,
    dumped,
    restore,
    saved_pictures,
    structured_picture,
    with_alpha,
)
from helpers.comfyui.server import ComfyServer
from varsr_core.batch.__main__ import main

CHOICES = {  # of the node and, with dashes, of the command
    "scale": 3.0,
    "seed": 123,
    "guidance": 4.5,
    "guidance_schedule": "quadratic",
    "top_k": 30,
    "top_p": 0.9,
    "temperature": 1.2,
    "refine_steps": 5,
    "refine_strength": 0.75,
    "tiling": "lock-step",
    "overlap": 0.375,
    "color_fix": "wavelet",
    "color_strength": 0.5,
}


def commanded(
    picture: Path, checkpoint: Path, out: Path, dtype: str = "fp32", **choices: object
) -> np.ndarray:
    """(H, W, C) uint8 of the one file that the command writes."""
    choices = {"dtype": dtype, "threads": 1, **choices}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in choices.items()]
    threads = torch.get_num_threads()
    try:
        code = main([str(picture), str(out), f"--model={checkpoint}", *options])
    finally:
        torch.set_num_threads(threads)
    assert code == 0
    return np.asarray(Image.open(out / picture.name))


@pytest.mark.parametrize("dtype", ["fp32", "auto", "bf16"])
@pytest.mark.parametrize("choices", [{}, CHOICES], ids=["defaults", "every choice"])
def test_command_and_node_give_the_same_bits(
    server: ComfyServer,
    photo: Image.Image,
    uploaded: str,
    checkpoints: Path,
    tmp_path: Path,
    dtype: str,
    choices: dict[str, object],
) -> None:
    run = restore(server, upscale_graph(uploaded, dtype=dtype, **choices))
    photo.save(tmp_path / "photo.png")
    found = commanded(
        tmp_path / "photo.png",
        checkpoints / "micro.safetensors",
        tmp_path / "out",
        dtype,
        **choices,
    )
    np.testing.assert_array_equal(found, as_saved(dumped(run)[0]))
    np.testing.assert_array_equal(found, saved_pictures(server, run)[0])


def test_they_do_for_several_large_tiles(
    server: ComfyServer, checkpoints: Path, tmp_path: Path
) -> None:
    photo = structured_picture(70, 52, phase=3.0)
    photo.save(tmp_path / "large.png")
    name = server.upload(photo, "large.png")
    run = restore(server, upscale_graph(name, "small.safetensors"))
    found = commanded(tmp_path / "large.png", checkpoints / "small.safetensors", tmp_path / "out")
    np.testing.assert_array_equal(found, saved_pictures(server, run)[0])


def test_they_do_for_transparency(
    server: ComfyServer, photo: Image.Image, checkpoints: Path, tmp_path: Path
) -> None:
    with_alpha(photo).save(tmp_path / "faded.png")
    graph = Graph()
    picture = graph.with_alpha(graph.picture(server.upload(with_alpha(photo), "faded.png")))
    graph.save(graph.upscale(graph.load(), picture))
    (saved,) = saved_pictures(server, restore(server, graph))
    found = commanded(tmp_path / "faded.png", checkpoints / "micro.safetensors", tmp_path / "out")
    np.testing.assert_array_equal(found, saved)
