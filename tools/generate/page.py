"""What the page shows on which node: writes web/js/nodes.js from what the nodes say of themselves.

    .venv/bin/python tools/generate/page.py [HOST]

HOST: folder with ComfyUI's main.py; by default the one that tools/test.py sets up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.generate.read_nodes import chosen_host, read_nodes

FILE = ROOT / "web" / "js" / "nodes.js"
HEAD = "// Made by tools/generate/page.py: what the page shows on which node."


def content(nodes: dict[str, type]) -> str:
    """nodes.js; scales: of the strip, until the first run tells the model's own; slider: whether
    there is one; preset: the widgets that presets set."""
    found = {id: _parts(node) for id, node in nodes.items()}
    lines = (f"    {id}: {json.dumps(parts)},\n" for id, parts in found.items() if parts)
    return f"{HEAD}\n\nexport const NODES = {{\n{''.join(lines)}}};\n"


def _parts(node: type) -> dict[str, object]:
    parts: dict[str, object] = {}
    if hasattr(node, "SCALES"):
        parts |= {"scales": node.SCALES, "slider": getattr(node, "SLIDER", False)}
    if hasattr(node, "PRESETS"):
        parts["preset"] = list(next(iter(node.PRESETS.values())))
    return parts


def with_slider() -> set[str]:
    """Ids of the nodes that show before and after."""
    return _nodes('"slider": true')


def with_strip() -> set[str]:
    """Ids of the nodes that show their scales."""
    return _nodes('"scales": [')


def _nodes(part: str) -> set[str]:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return {line.partition(":")[0].strip() for line in lines if part in line}


if __name__ == "__main__":
    FILE.write_text(content(read_nodes(chosen_host(__doc__))), encoding="utf-8")
    print(FILE.relative_to(ROOT))
