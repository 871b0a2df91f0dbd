"""A class-to-image model of four classes, trained in ten seconds: one picture of 8x8 for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from helpers import models
from helpers.training import SIZES, settings
from varsr_core.training.config import TrainingConfig
from varsr_core.training.data.settings import DataSettings
from varsr_core.training.run import Training

LABELS, TILE, DROPPED = 4, 8, 0.1
CLASS_SIZES: dict[str, Any] = {
    **SIZES,
    "tokenizer": {**SIZES["tokenizer"], "widths": [16, 48], "norm_groups": 4},
    "transformer": {**SIZES["transformer"], "prefix_widths": [], "num_classes": LABELS + 1},
}


def pictures() -> Tensor:
    """One of each class, in 8 bits, the same when mirrored."""
    drawn = torch.cat([models.picture(TILE, TILE, seed=seed) for seed in range(LABELS)])
    return ((drawn + drawn.flip(3)) / 2 * 255).round() / 255


def train_classes(folder: Path) -> Path:
    """The folder of a run that is done."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = ["file,class"]
    for label, picture in enumerate(pictures()):
        pixels = picture.permute(1, 2, 0).mul(255).round().byte()
        Image.fromarray(pixels.numpy()).save(folder / "pictures" / f"{label}.png")
        rows.append(f"{label}.png,{label}")
    table = folder / "classes.csv"
    table.write_text("\n".join(rows) + "\n")
    config = TrainingConfig(
        sizes=CLASS_SIZES,
        model="varsr_c2i",
        tokenizer=settings(5, batch=4),
        class_to_image=settings(200, batch=8, learning_rate=3e-3),
        data=DataSettings(
            class_table=str(table), num_classes=LABELS, class_dropout=DROPPED, rotations=False
        ),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more cost more than they bring at these sizes
    try:
        assert Training(config, folder / "run", [folder / "pictures"], []).run()
    finally:
        torch.set_num_threads(threads)
    return folder / "run"
