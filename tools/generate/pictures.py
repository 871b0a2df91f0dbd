"""Makes the pictures of help pages, README and registry by running the pack in a real ComfyUI.

    python3 tools/generate/pictures.py [PAGE ...]

Writes web/docs/images and .github/images: all, or those of some pages such as VARSR_Sample. Run it
again after the model that comes with the pack has changed. What each page shows is a function in
`illustrations`; the photographs are those of tests/data.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.host import NEWEST, comfyui, in_environment

if TYPE_CHECKING:
    from PIL.Image import Image

    from helpers.comfyui.server import ComfyServer

IMAGES = ROOT / "web" / "docs" / "images"
OF_THE_REGISTRY = ROOT / ".github" / "images"
QUALITY = 88


def illustrate(server: ComfyServer, wanted: Collection[str] = ()) -> None:
    """All pictures, or those named in `wanted`."""
    from tools.generate.illustrations import (
        brand,
        class_pages,
        k2n_pages,
        more_pages,
        nsarm_pages,
        varsr_pages,
    )
    from tools.generate.illustrations.flow import Flow

    known = server.object_info()
    for name, page in {**varsr_pages.PAGES, **more_pages.PAGES}.items():
        if not wanted or name in wanted:
            _save(page(Flow(server, known)), name)
    for name, drawing in {**nsarm_pages.PAGES, **class_pages.PAGES, **k2n_pages.PAGES}.items():
        if not wanted or name in wanted:
            _save(drawing(), name, lossless=True)
    if not wanted:
        OF_THE_REGISTRY.mkdir(exist_ok=True)
        brand.icon().save(OF_THE_REGISTRY / "icon.png", optimize=True)
        brand.banner().save(OF_THE_REGISTRY / "banner.png", optimize=True)


def _save(picture: Image, name: str, *, lossless: bool = False) -> None:
    """lossless: for drawings, whose edges a lossy picture would fray."""
    IMAGES.mkdir(exist_ok=True)
    picture.save(IMAGES / f"{name}.webp", quality=QUALITY, lossless=lossless, method=6)
    print(name, *picture.size)


if __name__ == "__main__":
    with comfyui(in_environment().hosts[NEWEST]) as (started, _):
        illustrate(started, sys.argv[1:])
