"""Where a template's nodes stand, in the formats of the page and of the API."""

from __future__ import annotations

from tools.generate.page import with_slider
from tools.generate.template_graphs import Link, Node, Template

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
COLUMN, GAP = 400, 60  # of the layout, in pixels of the canvas
WIDTH, TITLE, ROW, WIDGET, PICTURE = 320, 40, 20, 26, 280
SHOWS_PICTURE = {"LoadImage", "SaveImage", "PreviewImage", "SaveVideo"} | with_slider()
NOTE_SIZE = [320, 200]


class Layout:
    """One template against what the host says of its nodes."""

    def __init__(self, template: Template, known: dict[str, dict]) -> None:
        self.template, self.known = template, known
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

    def api(self) -> dict[str, dict]:
        graph = {}
        for node in self.template.nodes:
            inputs = {}
            for name, declared in self.inputs(node).items():
                given = node.inputs.get(name)
                if isinstance(given, Link):
                    inputs[name] = [str(given.node.number), given.output]
                elif self.is_widget(declared):
                    inputs[name] = self.value(node, name, declared)
            graph[str(node.number)] = {"class_type": node.kind, "inputs": inputs}
        return graph

    def editor(self) -> dict:
        nodes = [self.node(node, place) for node, place in self.places()]
        for number, outgoing in enumerate(self.links):
            outgoing[0] = number + 1
        nodes.append(self._note(len(nodes)))
        return {
            "id": self.template.name,
            "revision": 0,
            "last_node_id": len(nodes),
            "last_link_id": len(self.links),
            "nodes": nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def places(self) -> list[tuple[Node, list[int]]]:
        """One column a step away from the sources, one below the other."""
        depth: dict[int, int] = {}
        for node in self.template.nodes:
            sources = [link.node.number for link in node.inputs.values() if isinstance(link, Link)]
            depth[node.number] = max((depth[source] + 1 for source in sources), default=0)
        bottom: dict[int, int] = {}
        places = []
        for node in self.template.nodes:
            column = depth[node.number]
            top = bottom.get(column, 40)
            places.append((node, [40 + column * COLUMN, top]))
            bottom[column] = top + self._height(node) + GAP
        return places

    def _height(self, node: Node) -> int:
        inputs = self.inputs(node)
        widgets = sum(self.is_widget(declared) for declared in inputs.values())
        sockets = max(len(inputs) - widgets, len(self.known[node.kind]["output"]))
        picture = PICTURE if node.kind in SHOWS_PICTURE else 0
        return TITLE + ROW * sockets + WIDGET * widgets + picture

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
        properties = {"Node name for S&R": node.kind}
        if node.models:
            properties["models"] = node.models
        return {
            "id": node.number,
            "type": node.kind,
            "pos": place,
            "size": [WIDTH, self._height(node)],
            "flags": {},
            "order": node.number - 1,
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
        for target in self.template.nodes:
            for name in self.inputs(target):
                given = target.inputs.get(name)
                if isinstance(given, Link):
                    number += 1
                    if given.node is node and given.output == output:
                        found.append(number)
        return found

    def _note(self, order: int) -> dict:
        return {
            "id": order + 1,
            "type": "MarkdownNote",
            "pos": [40, -NOTE_SIZE[1] - 40],
            "size": NOTE_SIZE,
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "properties": {},
            "widgets_values": [self.template.note],
        }
