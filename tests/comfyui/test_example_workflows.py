"""The shipped workflows run as they are, and both of their formats say the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_server import ComfyServer
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = ROOT / "example_workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
CONTROL_WIDGETS = 1  # "control after generate" follows a seed in the editor's format only


def api_graph(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())


def run_shipped(server: ComfyServer, checkpoints: Path, name: str) -> np.ndarray:
    """The picture of a workflow, with the model file it names in place."""
    graph = api_graph(name)
    for node in graph.values():
        if node["class_type"] == "VARSR_LoadModel":
            target = server.base / "models" / "varsr" / node["inputs"]["checkpoint"]
            if not target.exists():
                shutil.copy(checkpoints / "small.safetensors", target)
        if node["class_type"] == "LoadImage":
            server.upload(
                Image.open(ROOT / "tests" / "data" / "kitten.png"), node["inputs"]["image"]
            )
    done = server.run(graph, timeout=300)
    assert done.succeeded, done.error
    return np.asarray(server.view(done.images()[0]))


@pytest.mark.parametrize("name", NAMES)
def test_shipped_workflow_gives_an_enlarged_picture_and_repeats_it(
    server: ComfyServer, checkpoints: Path, name: str
) -> None:
    first = run_shipped(server, checkpoints, name)
    assert first.shape == (512, 512, 3)
    assert first.std() > 1, "one flat colour"
    server.free(unload_models=True, free_memory=True)
    assert np.array_equal(run_shipped(server, checkpoints, name), first)


@pytest.mark.parametrize("name", NAMES)
def test_editor_and_api_format_say_the_same(name: str) -> None:
    editor = json.loads((WORKFLOWS / f"{name}.json").read_text())
    api = api_graph(name)
    links = {link[0]: [str(link[1]), link[2]] for link in editor["links"]}
    assert {str(node["id"]): node["type"] for node in editor["nodes"]} == {
        number: node["class_type"] for number, node in api.items()
    }
    for node in editor["nodes"]:
        wanted = api[str(node["id"])]["inputs"]
        wired = {i["name"]: links[i["link"]] for i in node["inputs"] if i["link"] is not None}
        assert wired == {key: value for key, value in wanted.items() if isinstance(value, list)}
        widgets = [value for value in wanted.values() if not isinstance(value, list)]
        shown = list(node["widgets_values"])
        if "seed" in wanted:
            seed = shown.index(wanted["seed"], list(wanted).index("seed") - len(wired))
            assert shown.pop(seed + CONTROL_WIDGETS) == "fixed"
        assert shown[: len(widgets)] == widgets


def test_every_workflow_has_both_formats() -> None:
    assert NAMES
    assert sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json")) == NAMES
