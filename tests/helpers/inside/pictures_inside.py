"""What the slider's pictures cost, in a process that is ComfyUI without its server.

    python pictures_inside.py HOST PACK BASE

Prints one JSON object; see test_before_after.py for what is expected of it.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from comfy_inside import load_pack
from PIL import Image
from torch import Tensor

HUGE = (30, 20000)  # no WebP is so wide


def main() -> None:
    host, pack, base = sys.argv[1:]
    package = load_pack(host, pack, base)
    module = import_module(f"{package}.nodes.before_after")
    context = import_module("comfy_execution.utils").CurrentNodeContext

    def kept(run: str, before: Tensor, after: Tensor) -> list[Any]:
        with context(run, "1"):
            return module.comparison(before, after)["varsr_comparison"]

    frames = picture(120, 160).expand(40, -1, -1, -1)
    large = picture(2000, 2000).expand(9, -1, -1, -1)
    one = picture(1500, 2100)
    measured = {
        "frames": len(kept("frames", frames, frames)),
        "large": len(kept("large", large, large)),
        "list": [len(kept("list", frames[:7], frames[:7])) for _ in range(4)],
        "next run": len(kept("next", frames[:7], frames[:7])),
        "kinds": {
            f"{height}x{width}x{channels}": exact(base, picture(height, width, channels), kept)
            for height, width, channels in ((40, 30, 1), (40, 30, 3), (40, 30, 4), (*HUGE, 3))
        },
        "sizes": [size(base, file) for file in kept("one", one, one)[0][0]],
        "in all": module.MAX_PIXELS,
    }
    sys.stdout.write(json.dumps(measured))


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    """Of 8-bit values, as a file gives them."""
    values = torch.randint(
        256, (1, height, width, channels), generator=torch.Generator().manual_seed(0)
    )
    return values / 255


def opened(base: str, file: dict[str, str]) -> Image.Image:
    return Image.open(Path(base) / "temp" / file["subfolder"] / file["filename"])


def size(base: str, file: dict[str, str]) -> list[int]:
    return list(opened(base, file).size)


def exact(base: str, image: Tensor, kept: Any) -> bool:
    """Whether the whole picture holds the very values."""
    ((_, whole, _),) = kept(f"exact {tuple(image.shape)}", image, image)
    with opened(base, whole[0]) as file:
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[image.shape[3]]
        found = torch.tensor(list(file.convert(mode).tobytes()))
    return bool((found == image.mul(255).round().flatten()).all())


if __name__ == "__main__":
    main()
