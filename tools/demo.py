"""The pack at work in a real ComfyUI, headless: a photograph in, an enlarged picture out.

    python3 tools/demo.py [PICTURE]

Needs nothing but Python: it sets up what it uses below this folder (see environment.py). It makes
a small checkpoint with random weights: the picture shows that everything runs, and means nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests" / "comfyui")]

import environment

HOST = "0.30.0"
WORKFLOW = ROOT / "example_workflows" / "api" / "varsr_upscale.json"
PHOTOGRAPH = ROOT / "tests" / "data" / "kitten.png"
NOT_SHIPPED = (".git", ".venv", ".comfyui", "output", "__pycache__", ".*_cache")


def run(picture: Path, host: Path) -> Path:
    """Runs the shipped workflow on a picture; returns where the result lies."""
    from comfy_server import ComfyServer
    from PIL import Image
    from random_checkpoint import SMALL, write_release

    from varsr_core.convert import DTYPES, convert_files

    with tempfile.TemporaryDirectory() as scratch:
        pack = Path(scratch) / "ComfyUI-VARSR"
        shutil.copytree(ROOT, pack, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        with ComfyServer(host, pack, Path(scratch) / "comfyui") as server:
            graph = json.loads(WORKFLOW.read_text())
            models = server.base / "models" / "varsr"
            models.mkdir(parents=True, exist_ok=True)
            release = write_release(models, SMALL)
            checkpoint = _input(graph, "VARSR_LoadModel", "checkpoint")
            convert_files(list(release), models / checkpoint, DTYPES["bf16"])
            server.upload(Image.open(picture), _input(graph, "LoadImage", "image"))
            done = server.run(graph, timeout=600)
            if not done.succeeded:
                raise SystemExit(f"the run failed: {done.error}\n{server.log[-3000:]}")
            result = server.view(done.images()[0])
    output = ROOT / "output" / f"{picture.stem}_{time.strftime('%Y%m%d_%H%M%S')}.png"
    output.parent.mkdir(exist_ok=True)
    result.save(output)
    return output


def _input(graph: dict, node: str, name: str) -> str:
    """What the workflow has as an input of its one node of a kind."""
    return next(n["inputs"][name] for n in graph.values() if n["class_type"] == node)


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
    print("Made with random weights: it shows that everything runs, and has no meaning.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
