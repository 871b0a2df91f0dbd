"""Boxes of a template as ComfyUI's page keeps them: subgraphs with nodes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tools.generate.template import ENTRANCE, EXIT, Box, Link, unique

if TYPE_CHECKING:
    from tools.generate.template_layout import Layout

SIDE = 120, 100  # of what stands for inputs and for outputs
COLUMN = 220  # so far from the nodes


def declared(box: Box, known: dict[str, dict]) -> dict[str, Any]:
    """What a host would say of the box if it were a node of its own."""
    inputs = {name: (_entering(box, name, known), {}) for name in box.inputs}
    outputs = [_said(link, known)["output"][link.output] for link in box.leaving.values()]
    return {
        "input": {"required": {}, "optional": inputs},
        "output": outputs,
        "output_name": list(box.leaving),
    }


def _entering(box: Box, name: str, known: dict[str, dict]) -> str:
    """The type of an input: that of the first socket inside that it goes to."""
    for node in box.inside.nodes:
        for socket, given in node.inputs.items():
            if given == box.given(name):
                said = known[node.kind]["input"]
                return {**said.get("required", {}), **said.get("optional", {})}[socket][0]
    raise ValueError(f"nothing in {box.title!r} takes its input {name!r}")


def _said(link: Link, known: dict[str, dict]) -> dict[str, Any]:
    return known[link.node.kind]


def definition(box: Box, layout: Layout) -> dict[str, Any]:
    """layout: of the nodes inside"""
    places = layout.places()
    nodes = [layout.node(node, place) for node, place in places]
    links = [_link(number + 1, *link[1:]) for number, link in enumerate(layout.links)]
    for slot, leaving in enumerate(box.leaving.values()):
        origin = next(node for node in nodes if node["id"] == leaving.node.number)
        output = origin["outputs"][leaving.output]
        number = len(links) + 1
        output["links"].append(number)
        links.append(_link(number, origin["id"], leaving.output, EXIT, slot, output["type"]))
    right = max(node["pos"][0] + node["size"][0] for node in nodes)
    assert box.title is not None
    return {
        "id": box.kind,
        "version": 1,
        "state": {
            "lastGroupId": 0,
            "lastNodeId": nodes[-1]["id"],
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": box.title,
        "inputNode": {"id": ENTRANCE, "bounding": [40 - COLUMN, 40, *SIDE]},
        "outputNode": {"id": EXIT, "bounding": [right + COLUMN - SIDE[0], 40, *SIDE]},
        "inputs": [
            _end(box, name, [link for link in links if _at(link, "origin", ENTRANCE, slot)])
            for slot, name in enumerate(box.inputs)
        ],
        "outputs": [
            _end(box, name, [link for link in links if _at(link, "target", EXIT, slot)])
            for slot, name in enumerate(box.leaving)
        ],
        "widgets": [],
        "nodes": nodes,
        "groups": [],
        "links": links,
        "extra": {},
    }


def _at(link: dict[str, Any], end: str, node: int, slot: int) -> bool:
    return link[f"{end}_id"] == node and link[f"{end}_slot"] == slot


def _end(box: Box, name: str, links: list[dict[str, Any]]) -> dict[str, Any]:
    """An input or an output of the subgraph."""
    numbers = [link["id"] for link in links]
    end = unique(f"{box.title} {numbers[0]}")
    return {"id": end, "name": name, "type": links[0]["type"], "linkIds": numbers}


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
