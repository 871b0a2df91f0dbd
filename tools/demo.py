"""The pack at work in a real ComfyUI, headless: a photograph in, an enlarged picture out.

    python3 tools/demo.py [PICTURE]

Needs nothing but Python: it sets up what it uses below this folder (see environment.py). The model
is the small one that comes with the pack.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.host import NEWEST, PHOTOGRAPH, comfyui, in_environment


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=Path, nargs="?", default=PHOTOGRAPH)
    arguments = parser.parse_args()
    hosts = in_environment().hosts
    print(f"picture: {run(arguments.picture.resolve(), hosts[NEWEST])}")


if __name__ == "__main__":
    main()
