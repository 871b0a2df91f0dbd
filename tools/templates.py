"""Writes the example workflows, in the editor's format and as API graphs, from template_graphs.py.

    python3 tools/templates.py    # writes example_workflows/*.json, api/*.json, subgraphs/*.json

Defaults, the order of widgets and the types of sockets come from a running ComfyUI, so a template
cannot fall behind the nodes. The editor's format is what the page would save.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests")]

import environment
from blueprint import NAME, blueprint
from template_graphs import TEMPLATES
from template_layout import Layout

OLDEST = "0.3.75"  # newer versions know its inputs; it does not know all of theirs
FOLDER = ROOT / "example_workflows"
SUBGRAPHS = ROOT / "subgraphs"


def write(known: dict[str, dict]) -> None:
    for template in TEMPLATES:
        layout = Layout(template, known)
        for path, graph in (
            (FOLDER / "api" / f"{template.name}.json", layout.api()),
            (FOLDER / f"{template.name}.json", layout.editor()),
        ):
            save(path, graph)
    save(SUBGRAPHS / f"{NAME}.json", blueprint(known))


def save(path: Path, graph: dict) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(graph, indent=2) + "\n")


def main() -> int:
    prepared = environment.prepare()
    if Path(sys.prefix) != environment.VENV:  # what it runs on lives in the environment
        return subprocess.run([prepared.python, __file__]).returncode
    from demo import PHOTOGRAPH, comfyui

    with comfyui(prepared.hosts[OLDEST], PHOTOGRAPH) as (server, _):
        write(server.object_info())
    return 0


if __name__ == "__main__":
    sys.exit(main())
