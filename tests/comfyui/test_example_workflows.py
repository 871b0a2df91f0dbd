"""The shipped workflows run as they are, and both of their formats say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from helpers.comfyui.run import Run
from helpers.comfyui.server import ComfyServer
from helpers.paths import KITTEN, ROOT

WORKFLOWS = ROOT / "example_workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
FRAMES, FPS = 5, 12
NOTE = "MarkdownNote"  # only in the editor's format
CONTROL_WIDGETS = 1  # "control after generate" follows a seed in the editor's format only


def api_graph(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())


def run_shipped(server: ComfyServer, name: str) -> Run:
    """A workflow with the pictures it names in place."""
    graph = api_graph(name)
    for node in graph.values():
        if node["class_type"] == "LoadImage":
            server.upload(Image.open(KITTEN), node["inputs"]["image"])
        if node["class_type"] == "LoadVideo":
            write_clip(server.base / "input" / node["inputs"]["file"])
    done = server.run(graph, timeout=300)
    assert done.succeeded, done.error
    return done


def write_clip(path: Path) -> None:
    """Some frames of the photograph, moving."""
    frames = np.asarray(Image.open(KITTEN).convert("RGB").resize((64, 64)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = 48
        for shift in range(FRAMES):
            part = np.ascontiguousarray(frames[shift : shift + 48, :48])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("name", ["varsr_upscale", "varsr_stages"])
def test_shipped_workflow_gives_an_enlarged_picture_and_repeats_it(
    server: ComfyServer, name: str
) -> None:
    def picture() -> np.ndarray:
        return np.asarray(server.view(run_shipped(server, name).images()[0]))

    first = picture()
    assert first.shape == (512, 512, 3)
    photograph = Image.open(KITTEN).convert("RGB").resize((512, 512), Image.BICUBIC)
    assert np.abs(first - np.asarray(photograph, float)).mean() < 25, "another picture"
    server.free(unload_models=True, free_memory=True)
    assert np.array_equal(picture(), first)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("varsr_comparison", (3 * 512, 2 * 512)),
        ("varsr_inside_a_mask", (512, 512)),
        ("varsr_keep_structure", (512, 512)),
    ],
)
def test_workflow_of_this_pack_and_core_nodes_runs(
    server: ComfyServer, name: str, size: tuple[int, int]
) -> None:
    done = run_shipped(server, name)
    assert server.view(done.images()[0]).size == size


def test_clip_has_all_its_frames_and_its_pace(server: ComfyServer) -> None:
    run_shipped(server, "varsr_clip")
    (file,) = (server.base / "output" / "video").iterdir()
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (96, 96)
        assert stream.average_rate == FPS
        assert sum(1 for _ in container.decode(stream)) == FRAMES


@pytest.mark.parametrize("name", NAMES)
def test_editor_and_api_format_say_the_same(name: str) -> None:
    editor = json.loads((WORKFLOWS / f"{name}.json").read_text())
    api = api_graph(name)
    links = {link[0]: [str(link[1]), link[2]] for link in editor["links"]}
    assert {str(node["id"]): node["type"] for node in editor["nodes"] if node["type"] != NOTE} == {
        number: node["class_type"] for number, node in api.items()
    }
    for node in editor["nodes"]:
        if node["type"] == NOTE:
            continue
        wanted = api[str(node["id"])]["inputs"]
        wired = {i["name"]: links[i["link"]] for i in node["inputs"] if i["link"] is not None}
        assert wired == {key: value for key, value in wanted.items() if isinstance(value, list)}
        wired_widgets = {i["name"] for i in node["inputs"] if "widget" in i}
        widgets = {
            name: value
            for name, value in wanted.items()
            if not isinstance(value, list) and name not in wired_widgets
        }
        shown = list(node["widgets_values"])
        if "seed" in widgets:
            assert shown.pop(list(widgets).index("seed") + CONTROL_WIDGETS) == "fixed"
        assert shown[: len(widgets)] == list(widgets.values())


def test_every_workflow_has_both_formats() -> None:
    assert NAMES
    assert sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json")) == NAMES
