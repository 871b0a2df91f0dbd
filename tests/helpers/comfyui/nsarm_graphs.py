"""Graphs of the NSARM nodes; see comfy_graphs.py."""

from __future__ import annotations

from typing import Any

from helpers.comfyui.graphs import SIZE, TILING, Graph, Link

SAMPLING = {"temperature": 0.5, "top_p": 0.97, "guidance": 1.0, "downsampling": "area"}
TEXT = {"saved_text": "no text"}
PROMPT = "A high-quality image with harmonious colors and rich details."


class NSARMGraph(Graph):
    """Without settings of its own, a picture becomes four times larger with the tiny model."""

    def load(
        self, checkpoint: str = "micro_fp32.safetensors", dtype: str = "fp32", node: str = "load"
    ) -> Link:
        return self.add(node, "NSARM_LoadModel", checkpoint=checkpoint, dtype=dtype)

    def text(self, encoder: str = "t5_tiny.safetensors", save_as: str = "") -> Link:
        given = {"text_encoder": encoder, "prompt": PROMPT, "save_as": save_as}
        return self.add("text", "NSARM_EncodeText", **given)

    def prefix(self, model: Link, image: Link, **settings: Any) -> Link:
        settings = {**SIZE, **TILING, **settings}
        return self.add("prefix", "NSARM_Prefix", model=model, image=image, **settings)

    def sample(self, model: Link, prefix: Link, *, node: str = "sample", **settings: Any) -> Link:
        settings = {**SAMPLING, **TEXT, "seed": 0, **settings}
        return self.add(node, "NSARM_Sample", model=model, prefix=prefix, **settings)

    def decode(self, model: Link, tokens: Link, *, node: str = "decode") -> Link:
        return self.add(node, "NSARM_Decode", model=model, bits=tokens)

    def upscale(self, model: Link, image: Link, *, node: str = "upscale", **settings: Any) -> Link:
        defaults = {
            **SAMPLING,
            **TEXT,
            **SIZE,
            **TILING,
            "seed": 0,
            "color_fix": "adain",
            "color_strength": 1.0,
            "feather": 16,
        }
        return self.add(node, "NSARM_Upscale", model=model, image=image, **(defaults | settings))


def upscale_graph(
    picture: str,
    checkpoint: str = "micro_fp32.safetensors",
    dtype: str = "fp32",
    **settings: Any,
) -> NSARMGraph:
    """picture -> Upscale -> both kinds of output."""
    graph = NSARMGraph()
    result = graph.upscale(graph.load(checkpoint, dtype), graph.picture(picture), **settings)
    graph.save(result)
    graph.dump(result)
    return graph


def staged_graph(picture: str, *, seed: int = 0, **sampling: Any) -> NSARMGraph:
    """The stages that Upscale runs, a node each."""
    graph = NSARMGraph()
    model, image = graph.load(), graph.picture(picture)
    bits = graph.sample(model, graph.prefix(model, image), seed=seed, **sampling)
    result = graph.match(graph.decode(model, bits), image)
    graph.save(result)
    graph.dump(result)
    return graph
