"""Workflows in files: those that the pack ships, and those saved with earlier versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.paths import DATA, ROOT

EXAMPLE = "example.png"  # comes with every ComfyUI


@dataclass(frozen=True)
class Workflows:
    """A folder of workflows in the editor's format, with api/ beside."""

    folder: Path

    @property
    def names(self) -> list[str]:
        return sorted(path.stem for path in (self.folder / "api").glob("*.json"))

    def editor(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{name}.json").read_text())

    def api(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "api" / f"{name}.json").read_text())


SHIPPED = Workflows(ROOT / "example_workflows")
SAVED = Workflows(DATA / "saved_workflows")
BLUEPRINTS = ROOT / "subgraphs"

FILES = {  # of templates that need some: node, input -> file, and what says what to do
    "8 Generate and upscale": [
        ("CheckpointLoaderSimple", "ckpt_name", "v1-5-pruned-emaonly-fp16.safetensors")
    ],
    "9 Restore after another upscaler": [
        ("UpscaleModelLoader", "model_name", "RealESRGAN_x4plus.pth")
    ],
    "Class to image then VARSR 4x": [("VARSR_LoadModel", "checkpoint", "VARSR_C2I.pth")],
    "NSARM 1 Upscale a picture": [("NSARM_LoadModel", "checkpoint", "NSARM.pth")],
    "NSARM 2 Step by step": [
        ("NSARM_LoadModel", "checkpoint", "NSARM.pth"),
        ("NSARM_EncodeText", "text_encoder", "flan_t5_xl_encoder_bf16.safetensors"),
    ],
}
# Of templates whose files a node fetches, once that is allowed: which nodes may say so.
FETCHED = {
    "7 Upscale with the released model": ("VARSR_GetModel",),
    "K2N Keep closer to the input": ("VARSR_GetModel", "VARSR_LoadK2N"),
}
BUILT_IN = [name for name in SHIPPED.names if name not in (*FILES, *FETCHED)]


def as_in(known: Mapping[str, Any], graph: Mapping[str, Any]) -> dict[str, Any]:
    """A graph without the inputs that this version's nodes have and `known` does not."""
    return {
        number: {
            "class_type": node["class_type"],
            "inputs": {k: v for k, v in node["inputs"].items() if k in known[number]["inputs"]},
        }
        for number, node in graph.items()
    }


def by_kind(graph: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of each kind of node, of which there is one; links name the kind they come from."""
    return {
        node["class_type"]: {
            name: [graph[value[0]]["class_type"], value[1]] if isinstance(value, list) else value
            for name, value in node["inputs"].items()
            if name != "filename_prefix"
        }
        for node in graph.values()
    }


def without_boxes(workflow: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list]]:
    """Nodes by the numbers that the API gives them, and the sources of their wired inputs.

    Returns number -> node in the editor's format, and "number input" -> [number, output].
    """
    defined = {box["id"]: box for box in workflow.get("definitions", {}).get("subgraphs", [])}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    sources: dict[str, list] = {}
    nodes: dict[str, Any] = {}

    def source(node: int, output: int) -> list:
        box = next((n for n in workflow["nodes"] if n["id"] == node and n["type"] in defined), None)
        if box is None:
            return [str(node), output]
        end = defined[box["type"]]["outputs"][output]
        (inner,) = (one for one in defined[box["type"]]["links"] if one["id"] == end["linkIds"][0])
        return [f"{node}:{inner['origin_id']}", inner["origin_slot"]]

    for node in workflow["nodes"]:
        wired = {i["name"]: source(*links[i["link"]]) for i in node["inputs"] if i["link"]}
        if node["type"] not in defined:
            nodes[str(node["id"])] = node
            sources |= {f"{node['id']} {name}": found for name, found in wired.items()}
            continue
        box = defined[node["type"]]
        inner = {link["id"]: link for link in box["links"]}
        for inside in box["nodes"]:
            number = f"{node['id']}:{inside['id']}"
            nodes[number] = inside
            for socket in inside["inputs"]:
                if not socket["link"]:
                    continue
                link = inner[socket["link"]]
                if link["origin_id"] < 0:
                    found = wired[box["inputs"][link["origin_slot"]]["name"]]
                else:
                    found = [f"{node['id']}:{link['origin_id']}", link["origin_slot"]]
                sources[f"{number} {socket['name']}"] = found
    return nodes, sources
