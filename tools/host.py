"""A real ComfyUI with this pack in it, and the environment in which tools run one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tools import environment

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))  # what talks to a server is shared with the tests

if TYPE_CHECKING:
    from helpers.comfyui.server import ComfyServer

NEWEST, OLDEST = "0.30.0", "0.3.75"  # of the versions that environment.py sets up
WORKFLOW = ROOT / "example_workflows" / "api" / "1 Upscale a picture.json"
PHOTOGRAPH = ROOT / "tests" / "data" / "kitten.png"
NOT_SHIPPED = (".git", ".venv", ".comfyui", ".train", "output", "__pycache__", ".*_cache")


def in_environment() -> environment.Environment:
    """Sets up what tools and tests run on; the running script is started again in it if need be."""
    prepared = environment.prepare()
    if Path(sys.prefix) != environment.VENV:
        sys.exit(subprocess.run([prepared.python, *sys.argv]).returncode)
    return prepared


@contextmanager
def comfyui(
    host: Path,
    picture: Path = PHOTOGRAPH,
    env: Mapping[str, str] | None = None,
    place: Sequence[str] = ("--cpu",),
) -> Iterator[tuple[ComfyServer, dict]]:
    """A running ComfyUI with this pack and the picture in place, and the shipped workflow on it.

    env:   variables beside those of this process
    place: arguments that say where it computes; none for the first card it finds
    """
    from PIL import Image

    from helpers.comfyui.server import ComfyServer

    graph = json.loads(WORKFLOW.read_text())
    node(graph, "VARSR_Upscale")["image"] = [number(graph, "LoadImage"), 0]  # not a corner of it
    with tempfile.TemporaryDirectory() as scratch:
        pack = Path(scratch) / "ComfyUI-VARSR"
        shutil.copytree(ROOT, pack, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        with ComfyServer(host, pack, Path(scratch) / "comfyui", place=place, env=env) as server:
            server.upload(Image.open(picture), node(graph, "LoadImage")["image"])
            yield server, graph


def node(graph: dict, kind: str) -> dict:
    """Inputs of the workflow's one node of a kind."""
    return next(entry["inputs"] for entry in graph.values() if entry["class_type"] == kind)


def number(graph: dict, kind: str) -> str:
    """Of the workflow's one node of a kind."""
    return next(found for found, entry in graph.items() if entry["class_type"] == kind)
