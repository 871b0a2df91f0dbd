"""VARSR Accelerate in a graph: what it changes, what it leaves alone, what it does without help."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers.comfyui.graphs import Graph, stages
from helpers.comfyui.pictures import dumped, restore
from helpers.comfyui.server import ComfyServer
from helpers.paths import KITTEN

NANO = "varsr_nano (built in)"
FP8_PSNR = 33.0  # dB against bf16, at least


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    return -10 * float(np.log10(np.square(found - expected).mean()))


@pytest.fixture
def kitten(server: ComfyServer) -> str:
    """A piece of a photograph."""
    return server.upload(Image.open(KITTEN).convert("RGB").crop((40, 30, 88, 78)), "kitten.png")


def test_with_its_defaults_it_changes_nothing(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    graph.dump(graph.upscale(graph.accelerate(model), image), "fast")
    graph.dump(graph.upscale(model, image, node="plain upscale"), "plain")
    run = restore(server, graph)
    np.testing.assert_array_equal(dumped(run, "fast"), dumped(run, "plain"))


def test_compiled_model_gives_the_picture_of_the_plain_one(
    server: ComfyServer, uploaded: str
) -> None:
    """With a C++ compiler up to rounding; without one to the bit, and the log says why."""
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    fast = graph.accelerate(model, method="compile")
    both = graph.accelerate(model, method="compile + graphs", node="second")  # graphs need CUDA
    graph.dump(graph.upscale(fast, image), "fast")
    graph.dump(graph.upscale(both, image, node="both upscale"), "both")
    graph.dump(graph.upscale(fast, image, node="larger", scale=6.0), "fast and larger")
    graph.dump(graph.upscale(model, image, node="plain upscale"), "plain")
    graph.dump(graph.upscale(model, image, node="plain larger", scale=6.0), "plain and larger")
    run = restore(server, graph)
    exact = "torch.compile does not work here" in server.log
    assert "CUDA graphs need CUDA and this is cpu" in server.log
    pairs = (("fast", "plain"), ("both", "plain"), ("fast and larger", "plain and larger"))
    for one, other in pairs:
        difference = np.abs(dumped(run, one) - dumped(run, other))
        assert difference.mean() < (1e-9 if exact else 1e-4)


def test_graphs_without_cuda_run_the_plain_model_and_say_so(
    server: ComfyServer, uploaded: str
) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    graph.dump(graph.upscale(graph.accelerate(model, method="graphs"), image), "fast")
    graph.dump(graph.upscale(model, image, node="plain upscale"), "plain")
    run = restore(server, graph)
    np.testing.assert_array_equal(dumped(run, "fast"), dumped(run, "plain"))
    assert "CUDA graphs need CUDA and this is cpu" in server.log


def test_8_bit_weights_give_nearly_the_picture_of_16_bits(server: ComfyServer, kitten: str) -> None:
    """And the model that they were made of is not changed by it."""
    graph = Graph()
    model, image = graph.load(NANO, "bf16"), graph.picture(kitten)
    small = graph.accelerate(model, weights="fp8")
    graph.dump(graph.upscale(small, image, scale=2.5), "small")
    # The plain model runs last, unless ComfyUI takes another order; then alone, again.
    graph.dump(graph.upscale(model, image, node="plain upscale", scale=2.5), "plain")
    run = restore(server, graph)
    alone = Graph()
    model, image = alone.load(NANO, "bf16"), alone.picture(kitten)
    alone.dump(alone.upscale(model, image, scale=2.5), "plain")
    np.testing.assert_array_equal(dumped(restore(server, alone), "plain"), dumped(run, "plain"))
    assert FP8_PSNR < psnr(dumped(run, "small"), dumped(run, "plain")) < 60


def test_unguided_scales_run_the_same_in_one_node_and_in_stages(
    server: ComfyServer, uploaded: str
) -> None:
    """The refiner's own guidance, 6 by default, gives way."""
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    fast = graph.accelerate(model, unguided_scales=2)
    graph.dump(graph.upscale(fast, image), "one")
    graph.dump(stages(graph, fast, image), "many")
    graph.dump(graph.upscale(model, image, node="plain upscale"), "plain")
    run = restore(server, graph)
    assert np.abs(dumped(run, "one") - dumped(run, "many")).mean() < 1e-4  # rounding
    assert np.abs(dumped(run, "one") - dumped(run, "plain")).max() > 1e-3


def test_two_in_a_row_do_what_both_say(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    first = graph.accelerate(model, unguided_scales=2, node="first")
    graph.dump(graph.upscale(graph.accelerate(first, weights="fp8"), image), "two")
    both = graph.accelerate(model, unguided_scales=2, weights="fp8", node="both")
    again = graph.accelerate(both, weights="fp8", node="again")
    graph.dump(graph.upscale(again, image, node="upscale at once"), "one")
    run = restore(server, graph)
    np.testing.assert_array_equal(dumped(run, "two"), dumped(run, "one"))


def test_tokens_pass_between_the_plain_model_and_the_accelerated_one(
    server: ComfyServer, uploaded: str
) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    fast = graph.accelerate(model, weights="fp8")
    tokens = graph.sample(fast, graph.prefix(model, image))
    graph.dump(graph.decode(model, graph.refine(model, tokens)), "mixed")
    assert np.isfinite(dumped(restore(server, graph), "mixed")).all()
