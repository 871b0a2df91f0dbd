"""The pack at work in a real ComfyUI, headless: a photograph in, an enlarged picture out.

    python3 tools/demo.py [PICTURE]

Needs nothing but Python: it sets up what it uses below this folder (see environment.py). The model
is the small one that comes with the pack.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests")]

import environment

if TYPE_CHECKING:
    from helpers.comfyui.server import ComfyServer

HOST = "0.30.0"
WORKFLOW = ROOT / "example_workflows" / "api" / "varsr_upscale.json"
PHOTOGRAPH = ROOT / "tests" / "data" / "kitten.png"
NOT_SHIPPED = (".git", ".venv", ".comfyui", ".train", "output", "__pycache__", ".*_cache")


@contextmanager
def comfyui(host: Path, picture: Path) -> Iterator[tuple[ComfyServer, dict]]:
    """A running ComfyUI with this pack and the picture in place, and the shipped workflow."""
    from PIL import Image

    from helpers.comfyui.server import ComfyServer

    graph = json.loads(WORKFLOW.read_text())
    with tempfile.TemporaryDirectory() as scratch:
        pack = Path(scratch) / "ComfyUI-VARSR"
        shutil.copytree(ROOT, pack, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        with ComfyServer(host, pack, Path(scratch) / "comfyui") as server:
            server.upload(Image.open(picture), node(graph, "LoadImage")["image"])
            yield server, graph


def node(graph: dict, kind: str) -> dict:
    """Inputs of the workflow's one node of a kind."""
    return next(entry["inputs"] for entry in graph.values() if entry["class_type"] == kind)


def run(picture: Path, host: Path) -> Path:
    """Runs the shipped workflow on a picture; returns where the result lies."""
    with comfyui(host, picture) as (server, graph):
        done = server.run(graph, timeout=600)
        if not done.succeeded:
            raise SystemExit(f"the run failed: {done.error}\n{server.log[-3000:]}")
        result = server.view(done.images()[0])
    output = ROOT / "output" / f"{picture.stem}_{time.strftime('%Y%m%d_%H%M%S')}.png"
    output.parent.mkdir(exist_ok=True)
    result.save(output)
    return output


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=Path, nargs="?", default=PHOTOGRAPH)
    arguments = parser.parse_args()
    prepared = environment.prepare()
    if Path(sys.prefix) != environment.VENV:  # what it runs on lives in the environment
        return subprocess.run([prepared.python, __file__, arguments.picture]).returncode
    output = run(arguments.picture.resolve(), prepared.hosts[HOST])
    print(f"picture: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
