"""Where a template's nodes stand, in the formats of the page and of the API."""

from __future__ import annotations

from tools.generate import subgraphs
from tools.generate.page import with_slider, with_strip
from tools.generate.template import Box, Graph, Link, Node, Template

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
COLUMN, GAP = 380, 60  # of the layout, in pixels of the canvas
HIGHEST = 840  # of a column
WIDTH, TITLE, ROW, WIDGET, PICTURE, STRIP = 320, 40, 20, 26, 280, 60
SHOWS_PICTURE = {"LoadImage", "SaveImage", "PreviewImage", "SaveVideo"} | with_slider()
SHOWS_STRIP = with_strip()  # and previews while it runs
NOTE_WIDTH, NOTE_LINE, NOTE_LETTERS = 420, 18, 72  # and so many letters in a line


class Layout:
    """One graph against what the host says of its nodes."""

    def __init__(self, graph: Graph, known: dict[str, dict]) -> None:
        self.graph = graph
        self.boxes = [node for node in graph.nodes if isinstance(node, Box)]
        self.known = known | {box.kind: subgraphs.declared(box, known) for box in self.boxes}
        self.links: list[list] = []

    def inputs(self, node: Node) -> dict[str, tuple]:
        """Name -> (type, options) of all inputs, required ones first, as the page orders them."""
        said = self.known[node.kind]["input"]
        return {**said.get("required", {}), **said.get("optional", {})}

    def is_widget(self, declared: tuple) -> bool:
        kind, options = declared[0], declared[1] if len(declared) > 1 else {}
        return (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput")

    def value(self, node: Node, name: str, declared: tuple) -> object:
        """What the user's template says, or the node's default."""
        if name in node.inputs:
            return node.inputs[name]
        options = declared[1] if len(declared) > 1 else {}
        if "default" in options:
            return options["default"]
        choices = declared[0] if isinstance(declared[0], list) else options.get("options", [])
        return choices[0] if choices else ""

    def api(self, within: str = "", outside: dict[int, list] | None = None) -> dict[str, dict]:
        """Boxes unfolded, as the page does: "3:1" is node 1 of box 3.

        within:  what numbers begin with
        outside: what arrives at the inputs of the box that these nodes are in
        """
        found: dict[str, dict] = {}
        for node in self.graph.nodes:
            inputs = {}
            for name, declared in self.inputs(node).items():
                given = node.inputs.get(name)
                if isinstance(given, Link):
                    inputs[name] = self._source(given, within, outside or {})
                elif self.is_widget(declared):
                    inputs[name] = self.value(node, name, declared)
            if isinstance(node, Box):
                arriving = {slot: inputs[name] for slot, name in enumerate(node.inputs)}
                inside = Layout(node.inside, self.known)
                found |= inside.api(f"{within}{node.number}:", arriving)
            else:
                found[f"{within}{node.number}"] = {"class_type": node.kind, "inputs": inputs}
        return found

    def _source(self, link: Link, within: str, outside: dict[int, list]) -> list:
        if link.node.number == subgraphs.ENTRANCE:
            return outside[link.output]
        if isinstance(link.node, Box):
            inner = list(link.node.leaving.values())[link.output]
            return self._source(inner, f"{within}{link.node.number}:", {})
        return [f"{within}{link.node.number}", link.output]

    def editor(self) -> dict:
        nodes = [self.node(node, place) for node, place in self.places()]
        for number, outgoing in enumerate(self.links):
            outgoing[0] = number + 1
        if isinstance(self.graph, Template) and self.graph.note:
            nodes.append(_note(self.graph.note, len(nodes)))
        inside = [(box, Layout(box.inside, self.known)) for box in self.boxes]
        definitions = [subgraphs.definition(box, layout) for box, layout in inside]
        numbers = [
            node["id"] for whole in ({"nodes": nodes}, *definitions) for node in whole["nodes"]
        ]
        return {
            "id": self.graph.name,
            "revision": 0,
            "last_node_id": max(numbers),
            "last_link_id": len(self.links),
            "nodes": nodes,
            "links": self.links,
            "groups": [],
            **({"definitions": {"subgraphs": definitions}} if definitions else {}),
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def places(self) -> list[tuple[Node, list[int]]]:
        """One below the other and never left of a source; full columns begin the next."""
        columns: dict[int, int] = {}  # of each node
        bottoms = [40]
        places = []
        for node in self.graph.nodes:
            links = [link for link in node.inputs.values() if isinstance(link, Link)]
            column = max((columns.get(link.node.number, 0) for link in links), default=0)
            height = self._height(node)
            while bottoms[column] > 40 and bottoms[column] + height > HIGHEST:
                column += 1
                bottoms += [40] * (column == len(bottoms))
            columns[node.number] = column
            places.append((node, [40 + column * COLUMN, bottoms[column]]))
            bottoms[column] += height + GAP
        return places

    def _height(self, node: Node) -> int:
        inputs = self.inputs(node)
        widgets = sum(self.is_widget(declared) for declared in inputs.values())
        widgets += len(node.shown) if isinstance(node, Box) else 0
        sockets = max(len(inputs) - widgets, len(self.known[node.kind]["output"]))
        picture = PICTURE if node.kind in SHOWS_PICTURE | SHOWS_STRIP else 0
        strip = STRIP if node.kind in SHOWS_STRIP else 0
        return TITLE + ROW * sockets + WIDGET * widgets + picture + strip

    def node(self, node: Node, place: list[int]) -> dict:
        sockets, widgets = [], []
        for name, declared in self.inputs(node).items():
            given, widget = node.inputs.get(name), self.is_widget(declared)
            kind = "COMBO" if isinstance(declared[0], list) else declared[0]
            socket = {"name": name, "type": kind, "link": None}
            if isinstance(given, Link):
                self.links.append(
                    [0, given.node.number, given.output, node.number, len(sockets), kind]
                )
                socket["link"] = len(self.links)
            if name in self.known[node.kind]["input"].get("optional", {}):
                socket["shape"] = 7
            if widget:
                socket["widget"] = {"name": name}
                widgets += self._shown(node, name, declared)
            if not widget or isinstance(given, Link):
                sockets.append(socket)
        said = self.known[node.kind]
        outputs = [
            {"name": name, "type": kind, "links": self._leaving(node, index)}
            for index, (name, kind) in enumerate(
                zip(said["output_name"], said["output"], strict=True)
            )
        ]
        properties: dict[str, object] = {"Node name for S&R": node.kind}
        if isinstance(node, Box):
            shown = [[str(inside.number), widget] for inside, widget in node.shown]
            properties = {"proxyWidgets": shown}
        if node.models:
            properties["models"] = node.models
        named = {"title": node.title} if node.title else {}
        return {
            "id": node.number,
            "type": node.kind,
            **named,
            "pos": place,
            "size": [WIDTH, self._height(node)],
            "flags": {},
            "order": node.number - self.graph.first,
            "mode": 0,
            "inputs": sockets,
            "outputs": outputs,
            "properties": properties,
            "widgets_values": widgets,
        }

    def _shown(self, node: Node, name: str, declared: tuple) -> list:
        """A widget's values as the page keeps them, its companion's included."""
        value = self.value(node, name, declared)
        options = declared[1] if len(declared) > 1 else {}
        if isinstance(value, Link):
            value = options.get("default")
        if options.get("control_after_generate"):
            return [value, "fixed"]
        if options.get("image_upload") or options.get("video_upload"):
            return [value, "image"]
        return [value]

    def _leaving(self, node: Node, output: int) -> list[int]:
        """Numbers of the links from an output: links are numbered in the order of their targets."""
        number, found = 0, []
        for target in self.graph.nodes:
            for name in self.inputs(target):
                given = target.inputs.get(name)
                if isinstance(given, Link):
                    number += 1
                    if given.node is node and given.output == output:
                        found.append(number)
        return found


def _note(text: str, order: int) -> dict:
    """Left of the graph: it is read first."""
    lines = sum(2 + len(paragraph) // NOTE_LETTERS for paragraph in text.split("\n\n"))
    return {
        "id": order + 1,
        "type": "MarkdownNote",
        "pos": [40 - NOTE_WIDTH - GAP, 40],
        "size": [NOTE_WIDTH, TITLE + NOTE_LINE * lines],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [text],
    }
