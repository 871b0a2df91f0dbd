"""The pack's nodes as ComfyUI has loaded them, without its server."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / ".comfyui" / "0.30.0" / "ComfyUI"


def read_nodes(host: Path) -> dict[str, type]:
    """Node id -> its class; `host`: folder with ComfyUI's main.py."""
    if not (host / "main.py").is_file():
        raise SystemExit(f"{host} holds no ComfyUI; python3 tools/test.py sets one up")
    sys.argv[1:] = []  # ComfyUI reads them too
    sys.path.insert(0, str(host))
    with tempfile.TemporaryDirectory() as base:  # ComfyUI makes its folders there
        options = import_module("comfy.cli_args").args
        options.cpu, options.base_directory = True, base
        import_module("utils.extra_config")  # as main.py does, before nodes.py puts comfy/ in front
        nodes = import_module("nodes")
        known = set(nodes.NODE_CLASS_MAPPINGS)
        if not asyncio.run(nodes.load_custom_node(str(ROOT))):
            raise SystemExit("ComfyUI could not load the pack")
    return {id: node for id, node in nodes.NODE_CLASS_MAPPINGS.items() if id not in known}


def chosen_host(description: str) -> Path:
    """The one argument of a tool that reads nodes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("host", type=Path, nargs="?", default=HOST)
    return parser.parse_args().host.resolve()
