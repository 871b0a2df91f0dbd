"""What one queued prompt did, as its client saw it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import Image


class Event(NamedTuple):
    """A websocket message of this prompt."""

    type: str
    data: dict[str, Any]


class Preview(NamedTuple):
    """A picture sent while a node runs."""

    metadata: dict[str, Any]  # node_id, image_type, ...
    content: bytes

    @property
    def node_id(self) -> str:
        return self.metadata["node_id"]

    @property
    def image(self) -> Image.Image:
        return Image.open(io.BytesIO(self.content))


@dataclass(frozen=True)
class Run:
    """A refused graph has status 400, node_errors in its body, and nothing else."""

    status: int  # HTTP, of the queueing
    body: dict[str, Any]
    events: list[Event] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)
    history: dict[str, Any] | None = None
    texts: list[tuple[str, str]] = field(default_factory=list)  # node id, what is written below it

    @property
    def succeeded(self) -> bool:
        return self.history is not None and self.history["status"]["status_str"] == "success"

    @property
    def interrupted(self) -> bool:
        """History calls an interruption an error, so only the event tells."""
        return self._first("execution_interrupted") is not None

    @property
    def error(self) -> dict[str, Any] | None:
        """node_id, exception_type, exception_message, traceback, ... of a node that raised."""
        return self._first("execution_error")

    @property
    def node_errors(self) -> dict[str, Any]:
        """Of a refused graph: node id -> {"errors": [...], ...}."""
        return self.body.get("node_errors") or {}

    @property
    def outputs(self) -> dict[str, Any]:
        """Node id -> what it shows, for output nodes."""
        return self.history["outputs"] if self.history else {}

    @property
    def executed_nodes(self) -> list[str]:
        """Ids of the nodes that really ran, in order, each once."""
        nodes = (event.data["node"] for event in self.events if event.type == "executing")
        return list(dict.fromkeys(node for node in nodes if node is not None))

    @property
    def cached_nodes(self) -> list[str]:
        """Ids of the nodes whose earlier result was used."""
        cached = self._first("execution_cached")
        return list(cached["nodes"]) if cached else []

    def shown(self, node_id: str) -> dict[str, Any]:
        """What the page is told to show on a node, an output node or not."""
        (told,) = [
            event.data["output"]
            for event in self.events
            if event.type == "executed" and event.data["node"] == node_id
        ]
        return told

    def images(self, node_id: str | None = None) -> list[dict[str, str]]:
        """References for ComfyServer.view(), of one output node or of all."""
        nodes = self.outputs if node_id is None else {node_id: self.outputs[node_id]}
        return [image for output in nodes.values() for image in output.get("images", [])]

    def progress(self, node_id: str) -> list[tuple[float, float]]:
        """(value, max) as shown on the node. ComfyUI drops updates in between: the first, the
        last and those with a preview always arrive, so compare nothing else."""
        return [
            (event.data["value"], event.data["max"])
            for event in self.events
            if event.type == "progress" and event.data["node"] == node_id
        ]

    def previews_of(self, node_id: str) -> list[Image.Image]:
        return [preview.image for preview in self.previews if preview.node_id == node_id]

    def _first(self, kind: str) -> dict[str, Any] | None:
        return next((event.data for event in self.events if event.type == kind), None)
