"""NSARM in a real ComfyUI: what comes out is what the core computes, in every way to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from helpers.comfyui.nsarm_checkpoints import write_nsarm, write_quarter
from helpers.comfyui.nsarm_graphs import PROMPT, NSARMGraph, staged_graph, upscale_graph
from helpers.comfyui.pictures import (
    as_saved,
    dumped,
    failing,
    restore,
    saved_pictures,
    structured_picture,
    with_alpha,
)
from helpers.comfyui.server import ComfyServer
from varsr_core.checkpoint import load_checkpoint
from varsr_core.nsarm.model import build_model
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.upscaling import upscale

TOLERANCE = 1e-4
NEWEST = pytest.mark.parametrize("server", ["0.30.0"], indirect=True)


@pytest.fixture(scope="module", autouse=True)
def models(server: ComfyServer) -> Path:
    folder = server.base / "models"
    write_nsarm(folder)
    return folder


def core_upscale(checkpoint: Path, photo: Image.Image, seed: int) -> np.ndarray:
    read = load_checkpoint([checkpoint])
    image = torch.from_numpy(np.asarray(photo).astype(np.float32) / 255.0).movedim(-1, 0)
    restorer = NSARMRestorer(build_model(read.tensors))
    return upscale(image[None], 4.0, restorer, seed=seed)[0].movedim(0, -1).numpy()


def test_result_is_what_the_core_computes_without_comfyui(
    server: ComfyServer, uploaded: str, photo: Image.Image, models: Path
) -> None:
    run = restore(server, upscale_graph(uploaded, seed=1011))
    wanted = core_upscale(models / "nsarm" / "micro_fp32.safetensors", photo, 1011)
    np.testing.assert_allclose(dumped(run)[0], wanted, rtol=0, atol=TOLERANCE)
    (saved,) = saved_pictures(server, run)
    assert saved.shape == (112, 160, 3)
    assert np.abs(saved.astype(int) - as_saved(wanted)).max() <= 1


def test_staged_nodes_give_the_bits_of_upscale(server: ComfyServer, uploaded: str) -> None:
    staged = dumped(restore(server, staged_graph(uploaded, seed=1021)))
    whole = dumped(restore(server, upscale_graph(uploaded, seed=1021)))
    np.testing.assert_array_equal(staged, whole)


def test_released_files_give_the_same_picture_as_converted_ones(
    server: ComfyServer, uploaded: str
) -> None:
    released = dumped(restore(server, upscale_graph(uploaded, "NSARM.pth", seed=1031)))
    converted = dumped(restore(server, upscale_graph(uploaded, seed=1031)))
    np.testing.assert_allclose(released, converted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("file", ["micro_bf16", "micro_fp8"])
@pytest.mark.parametrize("dtype", ["auto", "bf16", "fp16", "fp32"])
def test_every_precision_gives_a_picture(
    server: ComfyServer, uploaded: str, file: str, dtype: str
) -> None:
    image = dumped(restore(server, upscale_graph(uploaded, f"{file}.safetensors", dtype)))
    assert image.shape == (1, 112, 160, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0.01


def test_a_picture_of_700x500_is_restored_in_tiles(server: ComfyServer) -> None:
    name = server.upload(structured_picture(700, 500), "700x500.png")
    run = restore(server, upscale_graph(name, scale=0.5, seed=1041))
    assert server.view(run.images("save")[0]).size == (350, 250)
    run = restore(server, upscale_graph(name, scale=1.0, seed=1041, tiling="independent"))
    assert server.view(run.images("save")[0]).size == (700, 500)


@NEWEST
def test_all_13_scales_make_1024_pixels_of_256(server: ComfyServer, models: Path) -> None:
    write_quarter(models)
    name = server.upload(structured_picture(256, 256), "256.png")
    graph = upscale_graph(name, "quarter.safetensors", "auto", color_fix="none")
    run = server.run(graph, timeout=600)
    assert run.succeeded, run.error
    image = dumped(run)
    assert image.shape == (1, 1024, 1024, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0.01
    told = [event.data for event in run.events if event.type == "varsr.progress"]
    assert told[-1]["tiles"] == [1] * 7, "one box for scales 1 to 7, and six"
    assert {data["scale"] for data in told} >= {12, 13}
    assert {data["scales"] for data in told} == {None, 13}


def test_alpha_and_mask_are_treated_as_in_other_nodes(
    server: ComfyServer, photo: Image.Image
) -> None:
    name = server.upload(with_alpha(photo), "nsarm_faded.png")
    graph = NSARMGraph()
    picture = graph.picture(name)
    mask = graph.add("mask", "SolidMask", value=0.0, width=40, height=28)
    result = graph.upscale(graph.load(), graph.with_alpha(picture), mask=mask, seed=1051)
    graph.save(result)
    (saved,) = saved_pictures(server, restore(server, graph))
    assert saved.shape == (112, 160, 4)
    plain = photo.resize((160, 112), Image.Resampling.BICUBIC)
    assert np.abs(saved[..., :3].astype(int) - np.asarray(plain)).mean() < 3


def test_every_picture_of_a_batch_is_restored_as_if_alone(
    server: ComfyServer, uploaded: str, photo: Image.Image
) -> None:
    second = server.upload(structured_picture(*photo.size, phase=1.0), "second.png")
    graph = NSARMGraph()
    pictures = [graph.picture(uploaded, "one"), graph.picture(second, "two")]
    batch = graph.add("batch", "ImageBatch", image1=pictures[0], image2=pictures[1])
    graph.dump(graph.upscale(graph.load(), batch, temperature=0.0))
    images = dumped(restore(server, graph))
    for image, name in zip(images, (uploaded, second), strict=True):
        alone = dumped(restore(server, upscale_graph(name, temperature=0.0)))[0]
        np.testing.assert_allclose(image, alone, rtol=0, atol=TOLERANCE)


def test_a_text_changes_the_picture_and_guidance_changes_it_more(
    server: ComfyServer, uploaded: str
) -> None:
    def picture(guidance: float, with_text: bool = True) -> np.ndarray:
        graph = NSARMGraph()
        text = {"text": graph.text()} if with_text else {}
        settings = {"temperature": 0.0, "guidance": guidance, "color_fix": "none"}
        graph.dump(graph.upscale(graph.load(), graph.picture(uploaded), **settings, **text))
        return dumped(restore(server, graph))

    none, text, guided = picture(1.0, False), picture(1.0), picture(4.0)
    assert np.abs(text - none).mean() > 1e-3
    assert np.abs(guided - text).mean() > 1e-3
    np.testing.assert_array_equal(picture(4.0, False), none)


def test_saved_text_is_offered_and_gives_what_the_connected_one_gives(
    server: ComfyServer, uploaded: str
) -> None:
    graph = NSARMGraph()
    text = graph.text(save_as="rich details")
    graph.dump(graph.upscale(graph.load(), graph.picture(uploaded), temperature=0.0, text=text))
    connected = dumped(restore(server, graph))
    choices = server.object_info("NSARM_Sample")["input"]["required"]["saved_text"][1]["options"]
    assert choices == ["no text", "rich details.safetensors"]
    graph = upscale_graph(uploaded, temperature=0.0, saved_text=choices[1])
    np.testing.assert_array_equal(dumped(restore(server, graph)), connected)


def test_comfyui_reads_a_prompt_as_the_public_encoder_does(
    server: ComfyServer, uploaded: str, models: Path
) -> None:
    graph = NSARMGraph()
    text = graph.text(save_as="compared")
    graph.dump(graph.upscale(graph.load(), graph.picture(uploaded), text=text))
    restore(server, graph)
    found = load_file(server.base / "output" / "nsarm_text" / "compared.safetensors")
    weights = load_file(models / "text_encoders" / "t5_tiny.safetensors")
    config = T5Config(
        d_model=64, d_kv=8, d_ff=96, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
        vocab_size=32128,
    )  # fmt: skip
    encoder = T5EncoderModel(config).eval()
    missing, _ = encoder.load_state_dict(weights, strict=False)
    assert set(missing) <= {"encoder.embed_tokens.weight"}
    folder = server.host / "comfy" / "text_encoders" / "t5_tokenizer"
    ids = T5TokenizerFast.from_pretrained(str(folder))(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        wanted = encoder(ids).last_hidden_state[0]
    torch.testing.assert_close(found["text_features"], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("encoder", "node", "error", "words"),
    [
        ("t5_wide.safetensors", "NSARM_Upscale", "InputError", "(tokens, 64)"),
        ("no_t5.safetensors", "NSARM_EncodeText", "CheckpointError", "it is no flan-t5-xl"),
    ],
)
def test_another_text_encoder_is_refused(
    server: ComfyServer, uploaded: str, encoder: str, node: str, error: str, words: str
) -> None:
    graph = NSARMGraph()
    graph.dump(graph.upscale(graph.load(), graph.picture(uploaded), text=graph.text(encoder)))
    assert words in failing(server, graph, node, error)


def test_a_name_that_leads_elsewhere_is_refused(server: ComfyServer, uploaded: str) -> None:
    graph = NSARMGraph()
    text = graph.text(save_as="../outside")
    graph.dump(graph.upscale(graph.load(), graph.picture(uploaded), text=text))
    assert "save_as" in failing(server, graph, "NSARM_EncodeText", "InputError")
