"""Graphs in ComfyUI's API format. Node ids are words, so that a failing test reads well."""

from __future__ import annotations

from typing import Any

Link = list[Any]  # [node id, number of the output]

SAMPLING = {
    "guidance": 6.0,
    "guidance_schedule": "linear",
    "top_k": 1,
    "top_p": 1.0,
    "temperature": 1.0,
}


SIZE = {"scale": 4.0, "size_by": "scale", "target": 2048.0}
TILING = {"tiling": "phased", "overlap": 0.25}


class Graph(dict[str, dict[str, Any]]):
    """Every method adds one node and returns a link to its output.

    A graph without settings of its own restores the picture four times larger with the tiny model.
    """

    def add(self, node: str, class_type: str, **inputs: Any) -> Link:
        self[node] = {"class_type": class_type, "inputs": inputs}
        return [node, 0]

    def load(
        self, checkpoint: str = "micro.safetensors", dtype: str = "fp32", node: str = "load"
    ) -> Link:
        return self.add(node, "VARSR_LoadModel", checkpoint=checkpoint, dtype=dtype)

    def get_model(
        self,
        *,
        download: bool = True,
        keep_pickles: bool = True,
        dtype: str = "fp32",
        node: str = "get",
        number: int = 0,
    ) -> Link:
        """number: no input; one that no other test has, for what is not to be in a host's cache"""
        choices = {"dtype": dtype, "download": download, "keep_pickles": keep_pickles}
        return self.add(node, "VARSR_GetModel", **choices, number=number)

    def accelerate(self, model: Link, node: str = "accelerate", **choices: Any) -> Link:
        choices = {"method": "off", "weights": "as loaded", "unguided_scales": 0, **choices}
        return self.add(node, "VARSR_Accelerate", model=model, **choices)

    def picture(self, file: str, node: str = "picture") -> Link:
        return self.add(node, "LoadImage", image=file)

    def empty(self, width: int, height: int) -> Link:
        size = {"width": width, "height": height}
        return self.add("empty", "EmptyImage", **size, batch_size=1, color=0x808080)

    def upscale(self, model: Link, image: Link, *, node: str = "upscale", **settings: Any) -> Link:
        defaults = {
            **SAMPLING,
            **SIZE,
            **TILING,
            "seed": 0,
            "color_fix": "adain",
            "color_strength": 1.0,
            "feather": 16,
            "refine_steps": 10,
            "refine_strength": 1.0,
        }
        return self.add(node, "VARSR_Upscale", model=model, image=image, **(defaults | settings))

    def class_to_image(self, model: Link, *, node: str = "classes", **settings: Any) -> Link:
        defaults = {
            "label": 3,
            "pictures": 1,
            "seed": 0,
            "guidance": 4.0,
            "top_k": 20,
            "top_p": 0.75,
            "temperature": 1.0,
            "refine_steps": 10,
            "refine_strength": 1.0,
            "stop_scale": 0,
            "first_scale": 0,
        }
        return self.add(node, "VARSR_ClassToImage", model=model, **(defaults | settings))

    def prefix(self, model: Link, image: Link, **settings: Any) -> Link:
        settings = {**SIZE, **TILING, **settings}
        return self.add("prefix", "VARSR_EncodePrefix", model=model, image=image, **settings)

    def encode(self, model: Link, image: Link, **settings: Any) -> Link:
        settings = {**SIZE, "overlap": TILING["overlap"], **settings}
        return self.add("encode", "VARSR_EncodeTokens", model=model, image=image, **settings)

    def sample(self, model: Link, prefix: Link, *, node: str = "sample", **settings: Any) -> Link:
        defaults = {**SAMPLING, "seed": 0, "stop_scale": 0, "first_scale": 0}
        return self.add(node, "VARSR_Sample", model=model, prefix=prefix, **(defaults | settings))

    def refine(self, model: Link, tokens: Link, **settings: Any) -> Link:
        defaults = {"seed": 0, "guidance": 6.0, "steps": 10, "strength": 1.0}
        return self.add(
            "refine", "VARSR_Refine", model=model, tokens=tokens, **(defaults | settings)
        )

    def decode(self, model: Link, tokens: Link, *, node: str = "decode") -> Link:
        return self.add(node, "VARSR_Decode", model=model, tokens=tokens)

    def decode_scales(self, model: Link, tokens: Link, *, node: str = "scales") -> Link:
        return self.add(node, "VARSR_DecodeScales", model=model, tokens=tokens)

    def match(self, image: Link, reference: Link, *, mode: str = "adain") -> Link:
        return self.add(
            "match", "VARSR_MatchColors", image=image, reference=reference, mode=mode, strength=1.0
        )

    def spoil(self, image: Link, fault: str) -> Link:
        return self.add("spoil", "PROBE_Spoil", image=image, fault=fault)

    def strange(self, image: Link, kind: str) -> Link:
        """Fits every socket, whatever it is."""
        return self.add("strange", "PROBE_Strange", image=image, kind=kind)

    def channels(self, image: Link, channels: int) -> Link:
        return self.add("channels", "PROBE_Channels", image=image, channels=channels)

    def with_alpha(self, image: Link) -> Link:
        """image: of a LoadImage, whose second output is the file's alpha."""
        return self.add("alpha", "JoinImageWithAlpha", image=image, alpha=[image[0], 1])

    def save(self, image: Link, node: str = "save") -> Link:
        """A PNG, for saved_pictures()."""
        return self.add(node, "SaveImage", images=image, filename_prefix="test")

    def dump(self, image: Link, node: str = "dump") -> Link:
        """The exact numbers, for dumped()."""
        return self.add(node, "PROBE_Dump", image=image)


def upscale_graph(
    picture: str, checkpoint: str = "micro.safetensors", dtype: str = "fp32", **settings: Any
) -> Graph:
    """picture -> Upscale -> both kinds of output."""
    graph = Graph()
    result = graph.upscale(graph.load(checkpoint, dtype), graph.picture(picture), **settings)
    graph.save(result)
    graph.dump(result)
    return graph


def stages(
    graph: Graph,
    model: Link,
    image: Link,
    *,
    scale: float = 4.0,
    seed: int = 0,
    sampling: dict[str, Any] | None = None,
    refining: dict[str, Any] | None = None,
) -> Link:
    """The stages that Upscale runs, a node each."""
    tokens = graph.sample(
        model, graph.prefix(model, image, scale=scale), seed=seed, **(sampling or {})
    )
    tokens = graph.refine(model, tokens, seed=seed, **(refining or {}))
    return graph.match(graph.decode(model, tokens), image)


def staged_graph(picture: str, checkpoint: str = "micro.safetensors", **settings: Any) -> Graph:
    """picture -> stages() -> both kinds of output."""
    graph = Graph()
    result = stages(graph, graph.load(checkpoint), graph.picture(picture), **settings)
    graph.save(result)
    graph.dump(result)
    return graph
