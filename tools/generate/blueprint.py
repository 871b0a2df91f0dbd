"""The subgraph "VARSR 4x" of ComfyUI's node library: model and VARSR Upscale in one node."""

from __future__ import annotations

import uuid
from typing import Any

from tools.generate.template_graphs import Template
from tools.generate.template_layout import Layout

NAME = "VARSR 4x"
SHOWN = (
    ("VARSR_LoadModel", "checkpoint"),
    ("VARSR_Upscale", "seed"),
    ("VARSR_Upscale", "guidance"),
)
INPUTS = ("image", "mask", "alpha")  # of VARSR Upscale that the outside connects
INPUT_NODE, OUTPUT_NODE = -10, -20  # numbers that the page gives them
SIDE = 120, 100  # of what stands for inputs and for outputs


def blueprint(known: dict[str, dict]) -> dict[str, Any]:
    """A workflow with the subgraph as its only node, as the page saves blueprints."""
    flow = Template("varsr_4x", "")
    model = flow.model()
    upscale = flow.upscaled(model, None, scale=4.0).node
    layout = Layout(flow, known)
    inner = [layout.node(node, place) for node, place in layout.places()]
    links = [_link(number + 1, *link[1:]) for number, link in enumerate(layout.links)]
    last = inner[-1]
    for slot, name in enumerate(INPUTS):
        socket = next(socket for socket in last["inputs"] if socket["name"] == name)
        socket["link"] = len(links) + 1
        target = last["inputs"].index(socket)
        links.append(
            _link(socket["link"], INPUT_NODE, slot, upscale.number, target, socket["type"])
        )
    for slot, output in enumerate(last["outputs"]):
        output["links"] = [len(links) + 1]
        links.append(_link(len(links) + 1, upscale.number, slot, OUTPUT_NODE, slot, output["type"]))
    incoming = [link for link in links if link["origin_id"] == INPUT_NODE]
    outgoing = [link for link in links if link["target_id"] == OUTPUT_NODE]
    inputs = [_end(name, link) for name, link in zip(INPUTS, incoming, strict=True)]
    outputs = [_end(o["name"], link) for o, link in zip(last["outputs"], outgoing, strict=True)]
    subgraph = {
        "id": _id(NAME),
        "version": 1,
        "state": {
            "lastGroupId": 0,
            "lastNodeId": len(inner),
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": NAME,
        "inputNode": {"id": INPUT_NODE, "bounding": [-200, 40, *SIDE]},
        "outputNode": {"id": OUTPUT_NODE, "bounding": [900, 40, *SIDE]},
        "inputs": inputs,
        "outputs": outputs,
        "widgets": [],
        "nodes": inner,
        "groups": [],
        "links": links,
        "extra": {},
        "category": known["VARSR_Upscale"]["category"],
        "description": "Restores and enlarges a picture four times.",
    }
    return {
        "revision": 0,
        "last_node_id": len(inner) + 1,
        "last_link_id": 0,
        "nodes": [_outer(len(inner) + 1, subgraph, inner)],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {},
    }


def _outer(number: int, subgraph: dict[str, Any], inner: list[dict]) -> dict[str, Any]:
    numbers = {node["type"]: str(node["id"]) for node in inner}
    inputs = [
        {"name": end["name"], "type": end["type"], "link": None} for end in subgraph["inputs"]
    ]
    outputs = [
        {"name": end["name"], "type": end["type"], "links": []} for end in subgraph["outputs"]
    ]
    return {
        "id": number,
        "type": subgraph["id"],
        "pos": [0, 0],
        "size": [320, 160],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "properties": {"proxyWidgets": [[numbers[kind], widget] for kind, widget in SHOWN]},
        "widgets_values": [],
        "title": NAME,
    }


def _link(
    number: int, origin: int, origin_slot: int, target: int, target_slot: int, kind: str
) -> dict[str, Any]:
    return {
        "id": number,
        "origin_id": origin,
        "origin_slot": origin_slot,
        "target_id": target,
        "target_slot": target_slot,
        "type": kind,
    }


def _end(name: str, link: dict[str, Any]) -> dict[str, Any]:
    """An input or an output of the subgraph."""
    return {
        "id": _id(f"{NAME} {link['id']}"),
        "name": name,
        "type": link["type"],
        "linkIds": [link["id"]],
    }


def _id(name: str) -> str:
    """The same on every machine, so that the file changes only when the graph does."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"ComfyUI-VARSR/{name}"))
