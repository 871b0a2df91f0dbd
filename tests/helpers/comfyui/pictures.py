"""Pictures that go in, those that came out, and those the core makes without ComfyUI."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from helpers.comfyui.graphs import Graph
from helpers.comfyui.run import Run
from helpers.comfyui.server import ComfyServer
from helpers.threads import one_thread
from varsr_core.checkpoint import load_checkpoint
from varsr_core.upscaling import upscale
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.weights import build_model


def structured_picture(width: int, height: int, *, phase: float = 0.0) -> Image.Image:
    """Gradients, edges and stripes in colour, as 8-bit RGB; another phase is another picture."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    disc = np.hypot(x - 0.5, y - 0.35) < 0.25
    stripes = np.sin(40 * (x + 0.3 * y) + phase) > 0
    red = 0.15 + 0.8 * x
    green = np.where(disc, 0.9 - 0.5 * y, 0.25 + 0.4 * y)
    blue = np.where(stripes, 0.75, 0.3 + 0.2 * np.cos(9 * y + phase))
    return Image.fromarray((255 * np.stack((red, green, blue), axis=-1)).astype(np.uint8))


def with_alpha(picture: Image.Image) -> Image.Image:
    """The picture, fading out from left to right."""
    fading = np.linspace(255, 20, picture.width).astype(np.uint8)
    faded = picture.copy()
    faded.putalpha(Image.fromarray(np.tile(fading, (picture.height, 1))))
    return faded


def restore(server: ComfyServer, graph: Graph) -> Run:
    """A run that must succeed."""
    run = server.run(graph)
    assert run.succeeded, run.error or run.body
    return run


def failing(server: ComfyServer, graph: Graph, node_class: str, error_class: str) -> str:
    """A run that must fail in a node of this class, before any work of it; returns what it says."""
    run = server.run(graph)
    assert not run.succeeded, "the run went on to its end"
    assert run.error is not None, run.body
    assert run.error["node_type"] == node_class
    # A plain name: ComfyUI imports a pack under the path of its folder.
    assert run.error["exception_type"] == f"varsr_core.errors.{error_class}", run.error
    assert run.progress(run.error["node_id"]) == []
    return run.error["exception_message"]


def saved_pictures(server: ComfyServer, run: Run, node: str = "save") -> list[np.ndarray]:
    """(H, W, C) uint8 of every PNG that a Save Image node wrote."""
    return [np.asarray(server.view(image)) for image in run.images(node)]


def dumped(run: Run, node: str = "dump") -> np.ndarray:
    """(B, H, W, C) float32, exactly what the node before it gave."""
    return np.load(run.outputs[node]["file"][0])


def as_saved(image: np.ndarray) -> np.ndarray:
    """(..., C) float32 as Save Image turns it into 8 bits."""
    return np.clip(255.0 * image, 0, 255).astype(np.uint8)


def core_upscale(checkpoint: Path, picture: Image.Image, scale: float, seed: int) -> np.ndarray:
    """(H, W, C) float32 of the core alone, with the settings that Graph.upscale() has."""
    image = torch.from_numpy(np.asarray(picture).astype(np.float32) / 255.0).movedim(-1, 0)
    restorer = VARSRRestorer(_core_model(checkpoint), SampleSettings(), RefineSettings())
    with one_thread():
        return upscale(image[None], scale, restorer, seed=seed)[0].movedim(0, -1).numpy()


@cache
def _core_model(checkpoint: Path) -> VARSR:
    read = load_checkpoint([checkpoint])
    return build_model(read.tensors, fingerprint=read.fingerprint)
