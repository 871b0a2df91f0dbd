"""The nodes for a trained class-to-image model, in a process that is ComfyUI without its server.

    python classes_inside.py HOST PACK BASE

Prints one JSON object: label -> the token ids of every scale that VARSR Class to Image makes of it,
greedily, with the model file in BASE/models/varsr.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

from comfy_inside import load_pack

LABELS = 4


def main() -> None:
    load_pack(*sys.argv[1:])
    nodes = import_module("nodes").NODE_CLASS_MAPPINGS
    model = nodes["VARSR_LoadModel"].execute(checkpoint="model.safetensors", dtype="fp32")[0]
    maker = nodes["VARSR_ClassToImage"]
    choices = {i.id: i.default for i in maker.define_schema().inputs if hasattr(i, "default")}
    choices = {name: value for name, value in choices.items() if value is not None}
    made = {}
    for label in range(LABELS):
        given = {**choices, "model": model, "label": label, "top_k": 1, "guidance": 0.0}
        tokens = maker.execute(**given)[1]
        made[label] = [ids.flatten().tolist() for ids in tokens.token_ids]
    sys.stdout.write(json.dumps(made))


if __name__ == "__main__":
    main()
