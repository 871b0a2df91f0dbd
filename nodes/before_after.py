"""Pictures before and after, for the slider that web/js shows on a node and over the whole page."""

from __future__ import annotations

import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor

from ..varsr_core.images.resize import resize

SUBFOLDER = "varsr"
SMALL_SIDE = 1024  # of the copy on the node; a picture that is no larger is its own copy
# Of one run of a node, so that a film fills neither the disk nor the wait for its end. The first
# picture is always kept; one with more than MAX_PIXELS, which no browser shows well, is shrunk.
MAX_PICTURES = 16
MAX_PIXELS = 2**25  # both sides of all pictures
MAX_WEBP_SIDE = 16383
THREADS = 4
ROWS = 512  # converted at once, so that no second copy in float32 is made

logger = logging.getLogger(__name__)


@dataclass
class _Kept:
    """What the run under way has kept; a node that gets a list of pictures is called for each."""

    run: tuple[str, str] | None = None  # ids of prompt and node
    pictures: int = 0
    pixels: int = 0


_kept = _Kept()


def comparison(before: Tensor, after: Tensor) -> dict[str, list[Any]]:
    """Saves the first pictures of a batch, without loss, to the temporary folder.

    before, after: IMAGE (B, H, W, C), of any two sizes
    returns        what a node's `ui` takes. varsr_comparison: for each picture kept, files before
                   and after of a small copy, the same of the whole, and [width, height] after;
                   varsr_pictures: [B]. Lists, because ComfyUI counts files and dicts as results.
    """
    chosen = _chosen(before, after)
    try:
        pairs = _saved_pairs(before[:chosen], after[:chosen])
    except OSError as error:  # no comparison is worth losing the result
        logger.warning("No pictures for the slider on the node: %s", error)
        pairs = []
    return {"varsr_comparison": pairs, "varsr_pictures": [len(after)]}


def _chosen(before: Tensor, after: Tensor) -> int:
    """How many pictures of this batch are kept."""
    context = get_executing_context()
    run = context and (context.prompt_id, context.node_id)
    if run is None or run != _kept.run:
        _kept.run, _kept.pictures, _kept.pixels = run, 0, 0
    each = before[0, :, :, 0].numel() + after[0, :, :, 0].numel()
    room = min(MAX_PICTURES - _kept.pictures, (MAX_PIXELS - _kept.pixels) // each)
    chosen = min(max(room, 0 if _kept.pictures else 1), len(after))
    _kept.pictures += chosen
    _kept.pixels += chosen * each
    return chosen


def _saved_pairs(before: Tensor, after: Tensor) -> list[list[Any]]:
    folder = Path(folder_paths.get_temp_directory()) / SUBFOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(THREADS) as pool:
        saved = pool.map(lambda picture: _saved(picture, folder), [*before, *after])
        sides = list(saved)
    height, width = after.shape[1:3]
    pairs = zip(sides[: len(before)], sides[len(before) :], strict=True)
    return [
        [[small, small_after], [whole, whole_after], [width, height]]
        for (small, whole), (small_after, whole_after) in pairs
    ]


def _saved(picture: Tensor, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Files of a small copy and of the whole (H, W, C), one and the same where it is small."""
    height, width = picture.shape[:2]
    whole = _written(_shrunk(picture, (MAX_PIXELS / (height * width)) ** 0.5), folder)
    if max(height, width) <= SMALL_SIDE:
        return whole, whole
    return _written(_shrunk(picture, SMALL_SIDE / max(height, width)), folder), whole


def _shrunk(picture: Tensor, factor: float) -> Tensor:
    height, width = picture.shape[:2]
    if factor >= 1:
        return picture
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return resize(picture.movedim(-1, 0)[None], *size)[0].movedim(0, -1)


def _written(picture: Tensor, folder: Path) -> dict[str, str]:
    """The 8 bits that Save Image writes, without loss and with the least effort, which is quick."""
    pixels = torch.empty(picture.shape, dtype=torch.uint8)
    for top in range(0, len(pixels), ROWS):
        pixels[top : top + ROWS] = picture[top : top + ROWS].float().mul(255).clamp_(0, 255)
    image = Image.fromarray((pixels if pixels.shape[2] > 1 else pixels[:, :, 0]).numpy())
    name = uuid.uuid4().hex
    if max(image.size) > MAX_WEBP_SIDE:
        name += ".png"
        image.save(folder / name, compress_level=1)
    else:
        name += ".webp"
        image.save(folder / name, lossless=True, exact=True, quality=0, method=0)
    return {"filename": name, "subfolder": SUBFOLDER, "type": "temp"}
