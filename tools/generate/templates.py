"""Writes the example workflows, in the editor's format and as API graphs, from template_graphs.py.

    python3 tools/generate/templates.py    # example_workflows/*.json, api/*.json, subgraphs/*.json

Defaults, the order of widgets and the types of sockets come from a running ComfyUI, so a template
cannot fall behind the nodes. The editor's format is what the page would save.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.generate.blueprint import blueprints
from tools.generate.template_graphs import TEMPLATES
from tools.generate.template_layout import Layout
from tools.host import OLDEST, comfyui, in_environment

FOLDER = ROOT / "example_workflows"
SUBGRAPHS = ROOT / "subgraphs"


def write(known: dict[str, dict]) -> None:
    for old in (*FOLDER.rglob("*.json"), *SUBGRAPHS.glob("*.json")):
        old.unlink()
    for template in TEMPLATES:
        layout = Layout(template, known)
        for path, graph in (
            (FOLDER / "api" / f"{template.name}.json", layout.api()),
            (FOLDER / f"{template.name}.json", layout.editor()),
        ):
            save(path, graph)
    for name, whole in blueprints(known).items():
        save(SUBGRAPHS / f"{name}.json", whole)


def save(path: Path, graph: dict) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(graph, indent=2) + "\n")


def main() -> None:
    # Newer versions know the oldest one's inputs; it does not know all of theirs.
    with comfyui(in_environment().hosts[OLDEST]) as (server, _):
        write(server.object_info())


if __name__ == "__main__":
    main()
