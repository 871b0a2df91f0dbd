"""What ComfyUI keeps of the released models on small cards; see comfy_card.py.

    python cards_inside.py HOST PACK BASE

Models of full size, without numbers. Prints one JSON object: model -> gigabytes of the card ->
bytes of its weights, of those on the card, and of the work on one tile.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from comfy_card import CARD, room
from comfy_inside import load_pack

ROOT = Path(__file__).resolve().parents[3]
TAKEN = 0.6e9  # by the driver and the screen
GIGABYTES = (12, 8, 6, 3)


def main() -> None:
    package = load_pack(*sys.argv[1:])
    bring = import_module(f"{package}.nodes.host").bring
    measured = {
        name: {
            str(size): room(network, size * 1e9 - TAKEN, working, bring) | {"working": working}
            for size in GIGABYTES
        }
        for models in (varsr(package), nsarm(package))
        for name, network, working in models
    }
    sys.stdout.write(json.dumps(measured))


def manifest(file: str) -> dict[str, Any]:
    return json.loads((ROOT / "tests" / "data" / file).read_text())


def on_card(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device=CARD) for name, shape in shapes.items()}


def varsr(package: str) -> Iterator[tuple[str, torch.nn.Module, int]]:
    """In bf16, and with 8-bit weights."""
    weights = import_module(f"{package}.varsr_core.varsr.weights")
    operations = import_module(f"{package}.nodes.host").operations()
    files = manifest("varsr_manifest.json").values()
    released = on_card({name: entry[0] for file in files for name, entry in file.items()})
    counts = [side * side for side in (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)]
    counts[0] += counts[-1]  # the prefix
    released["lvl_1L"] = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))[None]
    plain = weights.build_model(
        weights.convert(released), dtype=torch.bfloat16, operations=operations
    )
    working = import_module(f"{package}.varsr_core.varsr.memory").tile_bytes(plain)
    yield "VARSR bf16", plain, working
    small = import_module(f"{package}.varsr_core.varsr.acceleration").in_float8(
        plain.state_dict(),
        plain,
        operations,
        import_module(f"{package}.nodes.fp8_linear").OffloadableFloat8Linear,
    )
    yield "VARSR fp8", small, working


def nsarm(package: str) -> Iterator[tuple[str, torch.nn.Module, int]]:
    """The transformer; autoencoder and map network make room for it."""

    def module(name: str) -> Any:
        return import_module(f"{package}.varsr_core.nsarm.{name}")

    operations = import_module(f"{package}.nodes.host").operations()
    files = [
        manifest(name)["tensors"] for name in ("nsarm_manifest.json", "nsarm_vae_manifest.json")
    ]
    released = module("weights").convert(
        on_card({name: entry["shape"] for file in files for name, entry in file.items()})
    )
    for name, dtype in (("bf16", torch.bfloat16), ("fp8", torch.float8_e4m3fn)):
        packed = module("row_scaled").pack(released, dtype)
        network = module("model").build_model(
            {key: tensor.detach() for key, tensor in packed.items()},
            dtype=torch.bfloat16,
            operations=operations,
        )
        yield f"NSARM {name}", network.transformer, module("memory").sampling_bytes(network, 1)


if __name__ == "__main__":
    main()
