"""What an example workflow is made of: nodes, wires, boxes and a note."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

EXAMPLE = "example.png"  # the picture that every ComfyUI comes with, 768x768
NANO = "varsr_nano (built in)"
ENTRANCE, EXIT = -10, -20  # numbers that the page gives to a box's own inputs and outputs
INSIDE = 100  # numbers of box 2 begin with 201: the page wants each once, whatever box it is in


@dataclass(eq=False)
class Node:
    """One node; `node[0]` is its first output.

    models: files that it names, for the page's list of missing ones: name, url, directory
    title:  in place of the kind's name
    """

    number: int
    kind: str
    inputs: dict[str, Any]
    models: list[dict[str, str]] = field(default_factory=list)
    title: str | None = None

    def __getitem__(self, output: int) -> Link:
        return Link(self, output)


@dataclass(frozen=True)
class Link:
    node: Node
    output: int


@dataclass
class Graph:
    """name: of a template's files, and what the page shows of it; of a box its title.

    first: number of the first node
    """

    name: str
    nodes: list[Node] = field(default_factory=list)
    first: int = 1

    def add(
        self,
        kind: str,
        *,
        models: list[dict[str, str]] | None = None,
        title: str | None = None,
        **inputs: Any,
    ) -> Node:
        self.nodes.append(Node(self._next(), kind, inputs, models or [], title))
        return self.nodes[-1]

    def box(self, title: str, **inputs: Link | None) -> Box:
        """Several nodes shown as one: a subgraph."""
        number = self._next()
        inside = Graph(title, first=number * INSIDE + 1)
        box = Box(number, unique(title), inputs, title=title, inside=inside)
        self.nodes.append(box)
        return box

    def _next(self) -> int:
        return self.first + len(self.nodes)

    def picture(self) -> Link:
        return self.add("LoadImage", image=EXAMPLE)[0]

    def model(self) -> Link:
        return self.add("VARSR_LoadModel", checkpoint=NANO)[0]

    def upscaled(self, model: Link, image: Link, **settings: Any) -> Link:
        return self.add("VARSR_Upscale", model=model, image=image, **settings)[0]

    def save(self, image: Link) -> None:
        self.add("SaveImage", images=image, filename_prefix="VARSR")


@dataclass(eq=False)
class Box(Node):
    """A subgraph; its inputs are named as they are inside.

    inside:  its nodes
    leaving: what its outputs are, inside
    shown:   widgets of nodes inside that the box shows: the node, the widget's name
    """

    inside: Graph = field(kw_only=True)
    leaving: dict[str, Link] = field(default_factory=dict)
    shown: list[tuple[Node, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entrance = Node(ENTRANCE, "", {})

    def given(self, name: str) -> Link:
        """What arrives at an input, for the nodes inside."""
        return self.entrance[list(self.inputs).index(name)]


@dataclass
class Template(Graph):
    """note: shown beside the graph, Markdown."""

    note: str = ""

    def texts(self) -> list[str]:
        """All that a reader of another language wants translated."""
        titles = [node.title for node in self.nodes if node.title]
        return list(dict.fromkeys([self.note, *titles]))


def unique(name: str) -> str:
    """An id as the page has them, the same on every machine: files change only when graphs do."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"ComfyUI-VARSR/{name}"))
