"""What every node does with what no socket takes, in a process that is ComfyUI without its server.

    python sockets_inside.py HOST PACK BASE

Prints one JSON object: node -> input -> what was given -> what came of it: "accepted" or the name
of the error's class. See test_strange_sockets.py for what is expected of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from importlib import import_module
from typing import Any

import torch
from comfy_inside import load_pack

PICTURE = torch.rand(1, 12, 16, 3, generator=torch.Generator().manual_seed(0))
MASK = PICTURE[..., 0]
PICTURES = {
    "good": PICTURE,
    "2 dimensions": PICTURE[0, :, :, 0],
    "3 dimensions": PICTURE[0],
    "5 dimensions": PICTURE[None],
    "no frame": PICTURE[:0],
    "no row": PICTURE[:, :0],
    "no channel": PICTURE[..., :0],
    "2 channels": PICTURE[..., :2],
    "5 channels": PICTURE[..., [0, 1, 2, 0, 1]],
    "whole numbers": (PICTURE * 255).byte(),
    "0 and 1": (PICTURE > 0.5).int(),
    "truth values": PICTURE > 0.5,
    "complex": PICTURE.to(torch.complex64),
    "sparse": PICTURE.to_sparse(),
    "nested": torch.nested.nested_tensor([PICTURE[0]]),
    "meta": PICTURE.to("meta"),
    "NaN": torch.full_like(PICTURE, torch.nan),
    "channels first": PICTURE.movedim(-1, 1),
}
MASKS = {
    "good": MASK,
    "2 dimensions good": MASK[0],
    "1 channel good": MASK[:, None],
    "truth values good": MASK > 0.5,
    "1 dimension": MASK.flatten(),
    "5 dimensions": MASK[None, None],
    "channels last": MASK[..., None],
    "4 channels": MASK[:, None].expand(-1, 4, -1, -1),
    "no mask": MASK[:0],
    "no row": MASK[:, :0],
    "complex": MASK.to(torch.complex64),
    "NaN": torch.full_like(MASK, torch.nan),
    "two for one": MASK.expand(2, -1, -1),
}
NUMBERS = {"NaN": torch.nan, "infinity": torch.inf, "a text": "1", "a tensor": torch.ones(2)}
ALWAYS = {"nothing": None, "a list": [PICTURE], "an object": object()}


def main() -> None:
    load_pack(*sys.argv[1:])
    mappings = import_module("nodes").NODE_CLASS_MAPPINGS
    nodes = {id: node for id, node in mappings.items() if id.startswith(("VARSR_", "NSARM_"))}
    results = _results(nodes)
    found = {}
    for id, node in nodes.items():
        good = {given.id: _good(id, given, results) for given in node.define_schema().inputs}
        found[id] = {"all good": {"good": _outcome(node, good)}}
        for given in node.define_schema().inputs:
            found[id][given.id] = {
                name: _outcome(node, good | {given.id: value})
                for name, value in _values(given, results)
            }
    sys.stdout.write(json.dumps(found))


def _results(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """What fits a type of socket, made by the nodes themselves; an older result stays."""
    results: dict[str, Any] = {"IMAGE": PICTURE, "MASK": MASK, "VIDEO": _video()}
    makers = (
        *("VARSR_LoadModel", "VARSR_EncodePrefix", "VARSR_Sample"),
        *("NSARM_LoadModel", "NSARM_EncodeText", "NSARM_Prefix", "NSARM_Sample"),
    )
    for id in makers:
        schema = nodes[id].define_schema()
        good = {given.id: _good(id, given, results) for given in schema.inputs}
        results[str(schema.outputs[0].io_type)] = nodes[id].execute(**good)[0]
    load = nodes["VARSR_LoadModel"].execute
    coarse, file = "VARSR_PredictCoarse", "k2n/varsr.safetensors"
    k2n = nodes["VARSR_LoadK2N"].execute(checkpoint="k2n/converted.safetensors")
    classes = load(checkpoint="classes.safetensors", dtype="fp32")
    return results | {
        "VARSR_ClassToImage VARSR_MODEL": classes[0],
        f"{coarse} VARSR_MODEL": load(checkpoint=file, dtype="fp32")[0],
        f"{coarse} VARSR_K2N": k2n[0],
    }


def _video() -> Any:
    from comfy_api.latest import InputImpl, Types

    parts = Types.VideoComponents(images=PICTURE, frame_rate=Fraction(24))
    return InputImpl.VideoFromComponents(parts)


def _good(id: str, given: Any, results: Mapping[str, Any]) -> Any:
    chosen = {
        "VARSR_LoadModel checkpoint": "micro.safetensors",
        "VARSR_LoadK2N checkpoint": "k2n/converted.safetensors",
        "VARSR_ClassToImage label": 3,
        "NSARM_LoadModel checkpoint": "micro_fp32.safetensors",
        "NSARM_EncodeText text_encoder": "t5_tiny.safetensors",
    }.get(f"{id} {given.id}")
    own = results.get(f"{id} {given.io_type}")  # of a node that takes another model than the rest
    default = getattr(given, "default", None)
    return chosen or own or results.get(str(given.io_type), default)


def _values(given: Any, results: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    kind = str(given.io_type)
    yield from ALWAYS.items()
    if kind in ("IMAGE", "MASK"):
        yield from (PICTURES if kind == "IMAGE" else MASKS).items()
    elif kind in ("INT", "FLOAT"):
        yield from NUMBERS.items()
    others = (other for other in results if other != kind and not other.endswith(f" {kind}"))
    yield from ((f"a {other}", results[other]) for other in others)


def _outcome(node: Any, inputs: Mapping[str, Any]) -> str:
    try:
        with torch.inference_mode():  # as ComfyUI runs nodes
            node.execute(**inputs)
    except Exception as error:
        return type(error).__name__
    return "accepted"


if __name__ == "__main__":
    main()
