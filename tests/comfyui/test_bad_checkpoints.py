"""Files that are no VARSR model: the error names the file and the remedy, and nothing is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from helpers.comfyui.checkpoints import MARKER
from helpers.comfyui.graphs import Graph, upscale_graph
from helpers.comfyui.pictures import failing, restore, structured_picture
from helpers.comfyui.server import ComfyServer

FAULTS = {  # file -> what its error says beside the file's name
    "broken/truncated.pth": ["truncated or no checkpoint", "download it again"],
    "broken/truncated.safetensors": ["truncated or no safetensors", "copy or convert it again"],
    "broken/empty.pth": ["(0 bytes)", "download it again"],
    "broken/empty.safetensors": ["(0 bytes)", "copy or convert it again"],
    "broken/text.ckpt": ["truncated or no checkpoint", "download it again"],
    "broken/malicious.pth": ["open", "was refused", "nothing was executed"],
    "broken/malicious.ckpt": ["open", "was refused", "nothing was executed"],
    "broken/stable-diffusion.safetensors": ["Stable Diffusion", "use the Load Checkpoint node"],
    "broken/esrgan.pth": ["ESRGAN", "use the Load Upscale Model node"],
    "broken/nsarm.pth": ["NSARM", "use the Load NSARM Model node"],
    "broken/unknown.safetensors": ["no checkpoint of VARSR", "'layers.0.weight'"],
    "broken/shape.safetensors": ["transformer.head.bias has shape (3,), (64,) is expected"],
    "broken/incomplete.safetensors": ["transformer.head.bias is missing"],
    "broken/newer.safetensors": ["format version 2", "update the pack"],
    "broken/transformer.pth": ["only the transformer", "VQVAE.pth) is needed"],
    "broken/class-to-image.pth": ["transformer (VARSR_C2I.pth)", "VQVAE.pth) is needed"],
    "broken/mixed/VARSR.pth": ["VQVAE.pth", "do not fit", "Download or convert"],
    "VQVAE.pth": ["only the tokenizer", "choose the transformer (VARSR.pth)"],
}


@pytest.fixture(autouse=True)
def _server_goes_on(server: ComfyServer) -> Iterator[None]:
    """After every test a good run on the same server."""
    yield
    name = server.upload(structured_picture(16, 16), "after.png")
    restore(server, upscale_graph(name))


@pytest.mark.parametrize(("file", "words"), FAULTS.items())
def test_unusable_file_is_refused_with_a_remedy(
    server: ComfyServer, uploaded: str, file: str, words: Sequence[str]
) -> None:
    message = failing(server, upscale_graph(uploaded, file), "VARSR_LoadModel", "CheckpointError")
    assert Path(file).name in message
    assert not [text for text in words if text not in message], message


@pytest.mark.parametrize("file", ["broken/malicious.pth", "broken/malicious.ckpt"])
def test_malicious_file_executes_nothing(
    server: ComfyServer, uploaded: str, checkpoints: Path, file: str
) -> None:
    marker = checkpoints / MARKER
    torch.load(checkpoints / file, weights_only=False)
    assert marker.exists(), "the file would do no harm anyway"
    marker.unlink()
    failing(server, upscale_graph(uploaded, file), "VARSR_LoadModel", "CheckpointError")
    assert not marker.exists()


def refusal(server: ComfyServer, graph: Graph, node: str) -> str:
    """What is said of a file before anything runs."""
    run = server.run(graph)
    assert run.status == 400
    (error,) = run.node_errors[node]["errors"]
    assert error["type"] == "custom_validation_failed"
    assert error["details"] in server.log
    return error["details"]


def test_file_that_is_not_there_is_refused_before_the_run(
    server: ComfyServer, uploaded: str
) -> None:
    said = refusal(server, upscale_graph(uploaded, "absent.safetensors"), "load")
    assert said.startswith("checkpoint - there is no file 'absent.safetensors'")
    assert "VARSR.pth" in said
    assert "https://huggingface.co/qyp2000/VARSR" in said
    assert str(server.base / "models" / "varsr") in said


def test_encoder_that_is_not_there_is_refused_before_the_run(server: ComfyServer) -> None:
    graph = Graph()
    text = graph.add("text", "NSARM_EncodeText", text_encoder="absent.pth", prompt="", save_as="")
    graph.add("shown", "PreviewAny", source=text)
    said = refusal(server, graph, "text")
    assert said.startswith("text_encoder - there is no file 'absent.pth'")
    assert str(server.base / "models" / "text_encoders") in said


def test_name_that_comes_over_a_wire_is_looked_for_when_it_is_known(
    server: ComfyServer, uploaded: str
) -> None:
    graph = Graph(upscale_graph(uploaded, seed=402))
    name = graph.add("name", "PROBE_Name", value="micro.safetensors")
    graph["load"]["inputs"]["checkpoint"] = name
    restore(server, graph)
    graph["name"]["inputs"]["value"] = "absent.safetensors"
    message = failing(server, graph, "VARSR_LoadModel", "CheckpointError")
    assert "there is no file 'absent.safetensors' in the list of models" in message


@pytest.mark.parametrize("kind", ["parent", "absolute", "detour"])
def test_only_names_of_the_list_are_opened(
    server: ComfyServer, uploaded: str, checkpoints: Path, kind: str
) -> None:
    """Whether the host looks or the node has to; a sound model lies at each of these places."""
    folder = server.base / "models" / "varsr"
    outside = folder.parent / "outside.safetensors"
    outside.write_bytes((checkpoints / "micro.safetensors").read_bytes())
    names = {
        "parent": "../outside.safetensors",
        "absolute": str(outside),
        "detour": "broken/../micro.safetensors",
    }
    said = refusal(server, upscale_graph(uploaded, names[kind]), "load")
    assert "in the list of models" in said


def test_only_model_files_are_offered(server: ComfyServer) -> None:
    folder = server.base / "models" / "varsr"
    (folder / "readme.txt").touch()
    making = (".download/a.pth", ".joined-a0_z9xyz/a.pth", ".0123456789abcdef.varsr-unfinished")
    for name in making:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    offered = server.object_info("VARSR_LoadModel")["input"]["required"]["checkpoint"]
    options = set(offered[1]["options"])
    assert {"VARSR.pth", "micro.safetensors", "broken/text.ckpt"} <= options
    assert options.isdisjoint(["readme.txt", *making])


def test_failed_load_is_tried_again(server: ComfyServer, uploaded: str, checkpoints: Path) -> None:
    """A user mends the file and queues the same graph."""
    target = server.base / "models" / "varsr" / "mended.safetensors"
    target.write_bytes(b"")
    graph = upscale_graph(uploaded, target.name)
    failing(server, graph, "VARSR_LoadModel", "CheckpointError")
    target.write_bytes((checkpoints / "micro.safetensors").read_bytes())
    restore(server, graph)


def test_unconnected_failure_does_not_stop_other_branches(
    server: ComfyServer, uploaded: str
) -> None:
    """Only what an output needs is loaded."""
    graph = Graph(upscale_graph(uploaded, seed=401))
    graph.load("broken/truncated.pth", node="unused")
    restore(server, graph)
