"""Small copies of a picture before and after, for the slider that web/js shows on a node."""

from __future__ import annotations

import uuid
from pathlib import Path

import folder_paths
from PIL import Image
from torch import Tensor

from ..varsr_core.images.resize import resize

MAX_SIDE = 1024
SUBFOLDER = "varsr"


def comparison(before: Tensor, after: Tensor) -> dict[str, list[dict[str, str]]]:
    """Saves the first of each batch to the temporary folder; both get the size of `after`.

    before, after: IMAGE (B, H, W, C)
    returns        what a node's `ui` takes

    They are shrunk first: whole, an enlarged picture can have hundreds of megabytes.
    """
    height, width = after.shape[1:3]
    factor = min(1.0, MAX_SIDE / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return {"varsr_comparison": [_saved(picture[0], size) for picture in (before, after)]}


def _saved(picture: Tensor, size: tuple[int, int]) -> dict[str, str]:
    small = resize(picture.movedim(-1, 0)[None], *size)[0].movedim(0, -1)
    pixels = small.mul(255).round().byte().cpu().numpy()
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])
    name = f"{uuid.uuid4().hex}.webp"
    folder = Path(folder_paths.get_temp_directory()) / SUBFOLDER
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, quality=90)
    return {"filename": name, "subfolder": SUBFOLDER, "type": "temp"}
