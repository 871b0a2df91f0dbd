"""What training makes of a few pictures: the weights it ends with, and what it trains on.

Its smallest model has tiles of 8 pixels, and is what the command restores with, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from materials import Materials, picture, pixels
from media import save_picture
from names import find
from registry import Made, result
from safetensors.torch import load_file
from torch import Tensor

PICTURES = 6
LOOP = {"steps": 3, "batch": 3, "learning_rate": 1e-3, "autocast": False, "average": 0.9}
DRAWN = {  # every weight is drawn
    "tokenizer": {
        "widths": [32, 32],
        "encoder_blocks": 1,
        "decoder_blocks": 1,
        "attention_levels": [],
        "latent_channels": 8,
        "codebook_size": 64,
        "phi_count": 4,
    },
    "transformer": {
        "width": 64,
        "depth": 2,
        "heads": 4,
        "mlp_width": 128,
        "prefix_widths": [16, 32],
        "num_classes": 2,
    },
    "refiner": {"width": 64, "depth": 2, "frequencies": 32},
    "schedule": [1, 2, 3, 4],
}
ROOMY: dict[str, Any] = {  # sizes that leave room for weights that are solved for
    **DRAWN,
    "tokenizer": {**DRAWN["tokenizer"], "widths": [16, 48], "norm_groups": 4, "codebook_size": 32},
    "transformer": {
        **DRAWN["transformer"],
        "width": 96,
        "mlp_width": 160,
        "prefix_widths": [16, 48],
    },
}
RUNS: dict[str, dict[str, Any]] = {
    "drawn": {"sizes": DRAWN, "zoom": 0.5}
    | dict.fromkeys(("tokenizer", "pretraining", "isr", "decoder"), LOOP),
    "solved": {"sizes": ROOMY, "unseen": 0.25}
    | dict.fromkeys(("tokenizer", "prefix", "sight", "isr", "decoder"), LOOP),
}


def trained(m: Materials, kind: str) -> Path:
    """The model that a run leaves; every run is done once."""
    place = m.folder / f"training_{kind}"
    if not place.exists():
        place.mkdir()
        for number in range(PICTURES):
            save_picture(place / "pictures" / f"{number}.png", pixels(40, 48, seed=number))
        (place / "config.json").write_text(json.dumps(RUNS[kind]))
        options = ("--config", place / "config.json", "--data", place / "pictures")
        m.run("varsr_core.training", *options, "--out", place / "run", "--device", "cpu")
    return place / "run" / "model.safetensors"


@result("training.drawn")
def drawn(m: Materials) -> Made:
    return weights(trained(m, "drawn"))


@result("training.solved")
def solved(m: Materials) -> Made:
    """Slow, since the first weights are solved from a thousand pairs."""
    return weights(trained(m, "solved"))


def weights(path: Path) -> Tensor:
    """All numbers of a model in one row, in the order of their names."""
    tensors = load_file(path)
    return torch.cat([tensors[name].flatten().double() for name in sorted(tensors)])


@result("training.degraded")
def degraded(m: Materials) -> Made:
    generator = torch.Generator().manual_seed(7)
    settings = find("DegradationSettings")()
    images = picture(48, 64, images=6)
    low, high = find("make_pair")(images, settings, generator)
    return {
        "small": find("degrade")(images, settings, generator),
        "low": low,
        "high": high,
    }
