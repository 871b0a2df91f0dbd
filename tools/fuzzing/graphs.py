"""Random graphs of the pack's nodes, from what a host says of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

Link = list[Any]
Info = Mapping[str, Any]  # of all nodes: id -> description

OURS = ("VARSR_", "NSARM_")
HELPERS = ("LoadImage", "RepeatImageBatch", "ImageBatch", "JoinImageWithAlpha", "ImageToMask",
           "MaskToImage", "InvertMask", "PROBE_Tensor", "PROBE_Spoil", "PROBE_Channels",
           "PROBE_SizeList", "PROBE_Strange")  # fmt: skip
ELSEWHERE = ("VARSR_GetModel", "VARSR_LoadK2N", "VARSR_PredictCoarse")  # models are not there
SOCKETS = ("IMAGE", "MASK")
WIDGETS = ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN")
PRIMITIVES = {"INT": "PrimitiveInt", "FLOAT": "PrimitiveFloat", "STRING": "PrimitiveString"}
# In names of models that are too large for a quick run; and what compiles takes minutes once.
SLOW = ("nano", "small", "quarter", "compile")
# More is no fault, but takes long.
HIGHEST = {"target": 200, "scale": 6.0, "amount": 3, "refine_steps": 20, "steps": 20}
MEGAPIXELS = 0.05
JUNK = (None, True, "", "7", "seven", [], {}, [1, 2, 3], -1, 0, 1.5, 2**70, -(2**70), 1e308, "nan",
        "inf", "-inf", "1e400", "../../../etc/passwd", "/etc/passwd", "C:\\x.safetensors", "\0",
        "é" * 5000, ["gone", 0], ["load", 99], ["load", -1], ["load", "0"], {"a": 1})  # fmt: skip
TEXTS = ("", " ", "text", "é\n", "../x", "a/b", "/etc/passwd", "micro.safetensors", "x" * 20000,
         "\0")  # fmt: skip
LINKED = {  # what primitive nodes can give
    "INT": (0, 1, -1, 99, 4096, 2**53, 2**63 - 1, 1 - 2**63),
    "FLOAT": (0, -1, 0.03, -0.5, 1e-300, 65536, 1e9, 9e18, -9e18, "nan"),
    "STRING": TEXTS,
}
DEEPEST = 6


class Graphs:
    """One random graph: nodes by name, in ComfyUI's API format.

    faults: how many places of it may still be made wrong
    """

    def __init__(self, rng: random.Random, info: Info, picture: str) -> None:
        self.rng, self.info, self.picture = rng, info, picture
        self.nodes: dict[str, Any] = {}
        self.faults = rng.choice((0, 0, 1, 1, 2, 5))
        ours = [name for name in info if name.startswith(OURS) and name not in ELSEWHERE]
        known = [*ours, *(name for name in info if name in HELPERS)]
        self.makers: dict[str, list[tuple[str, int]]] = {}
        for name in known:
            for number, kind in enumerate(info[name]["output"]):
                self.makers.setdefault(str(kind), []).append((name, number))

    def make(self) -> dict[str, Any]:
        for _ in range(self.rng.choice((1, 1, 2))):
            sink = self.rng.choice(("PROBE_Look", "PROBE_Look", "SaveImage"))
            ours = [name for name, _ in self.makers["IMAGE"] if name.startswith(OURS)]
            image = self.add(self.rng.choice(ours), 0)
            given = {"images" if sink == "SaveImage" else "image": [image, 0]}
            more = {"filename_prefix": "fuzz"} if sink == "SaveImage" else {}
            self.nodes[f"end{len(self.nodes)}"] = {"class_type": sink, "inputs": given | more}
        return self.nodes

    def add(self, kind: str, depth: int) -> str:
        """A node with all that it needs; returns its name."""
        name = f"n{len(self.nodes)}"
        node: dict[str, Any] = {"class_type": kind, "inputs": {}}
        self.nodes[name] = node
        described, ours = self.info[kind]["input"], kind.startswith(OURS)
        for need, inputs in described.items():
            if need not in ("required", "optional"):
                continue
            for field, spec in inputs.items():
                if need == "optional" and (self.rng.random() < 0.6 or not self._made(spec[0])):
                    continue
                if ours and self._wrong(0.02):
                    if self.rng.random() < 0.7:
                        node["inputs"][field] = self.rng.choice(JUNK)
                    continue
                node["inputs"][field] = self._value(field, spec, depth, ours)
        if ours and self._wrong(0.01):
            node["inputs"]["more"] = self.rng.choice(JUNK)
        return name

    def _made(self, kind: Any) -> bool:
        """Whether there is something to be given to such an input."""
        return isinstance(kind, list) or kind in (*WIDGETS, "COMBO") or kind in self.makers

    def _wrong(self, share: float) -> bool:
        if self.faults and self.rng.random() < share:
            self.faults -= 1
            return True
        return False

    def _value(self, field: str, spec: Any, depth: int, ours: bool) -> Any:
        """ours: whether it may be wrong"""
        kind, options = spec[0], (spec[1] if len(spec) > 1 else {})
        if isinstance(kind, list) or kind == "COMBO":
            offered = kind if isinstance(kind, list) else options["options"]
            return self._choice(field, offered, ours)
        if kind not in WIDGETS:
            return self._link(kind, depth)
        if kind in PRIMITIVES and ours and self._wrong(0.1):
            return self._linked(kind)
        if kind == "STRING":
            return self.rng.choice(TEXTS)
        if kind == "BOOLEAN":
            return self.rng.random() < 0.5
        return self._number(field, kind, options)

    def _number(self, field: str, kind: str, options: Mapping[str, Any]) -> Any:
        low, high = options.get("min", 0), options.get("max", 2**31)
        if self._wrong(0.01):
            return self.rng.choice((low - 1, high + 1, *JUNK))
        default = min(options.get("default", low), HIGHEST.get(field, high))
        if self.rng.random() < 0.6:
            return default
        high = min(high, HIGHEST.get(field, high))
        step = options.get("step") or 1
        value = self.rng.choice((low, high, low + step, high - step, self.rng.uniform(low, high)))
        return int(value) if kind == "INT" else value

    def _choice(self, field: str, offered: list[Any], ours: bool) -> Any:
        if field == "image":
            return self.picture
        if ours and self._wrong(0.02):
            if self.rng.random() < 0.5:
                return self._linked("STRING")
            return self.rng.choice(JUNK)
        if not ours and self.rng.random() < 0.7:
            return offered[0]  # what a good picture has
        quick = [one for one in offered if not any(word in str(one) for word in SLOW)] or offered
        sound = [one for one in quick if str(one).startswith("micro")]
        if sound and self.rng.random() < 0.8:
            return self.rng.choice(sound)
        return self.rng.choice(quick)

    def _linked(self, kind: str) -> Link:
        """A value that a node gives: no host looks at its range."""
        name = f"n{len(self.nodes)}"
        value = self.rng.choice(LINKED[kind])
        self.nodes[name] = {"class_type": PRIMITIVES[kind], "inputs": {"value": value}}
        return [name, 0]

    def _link(self, kind: str, depth: int) -> Any:
        if self._wrong(0.05):
            kind = self.rng.choice(list(self.makers))
        makers = self.makers.get(kind)
        if not makers:
            return self.rng.choice(JUNK)
        there = [
            [name, number]
            for name, node in self.nodes.items()
            for maker, number in makers
            if node["class_type"] == maker and "done" in node
        ]
        if there and self.rng.random() < (0.8 if kind.endswith("MODEL") else 0.4):
            return self.rng.choice(there)
        if depth >= DEEPEST or (kind in SOCKETS and self.rng.random() < 0.7):
            plain = [one for one in makers if not self._takes_links(one[0])]
            makers = plain or makers
        maker, number = self.rng.choice(makers)
        name = self.add(maker, depth + 1)
        self.nodes[name]["done"] = True  # may be used again without a loop; taken out in the end
        return [name, number]

    def _takes_links(self, kind: str) -> bool:
        required = self.info[kind]["input"].get("required", {})
        return any(isinstance(s[0], str) and s[0] not in WIDGETS for s in required.values())


def random_graph(rng: random.Random, info: Info, picture: str) -> dict[str, Any]:
    """picture: a file that the host has."""
    nodes = Graphs(rng, info, picture).make()
    for node in nodes.values():
        node.pop("done", None)
        given = node["inputs"]
        target = given.get("target")
        if given.get("size_by") == "megapixels" and isinstance(target, float | int):
            given["target"] = min(target, MEGAPIXELS) if target <= HIGHEST["target"] else target
    if rng.random() < 0.03:  # a loop, or a link to nothing
        first, last = next(iter(nodes)), list(nodes)[-1]
        nodes[first]["inputs"]["image"] = [rng.choice((first, last)), 0]
    return nodes
