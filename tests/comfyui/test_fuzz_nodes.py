"""Random graphs, a few of those that tools/fuzz.py makes by the hundred."""

from __future__ import annotations

from collections import Counter

from helpers.comfyui.nsarm_checkpoints import write_nsarm
from helpers.comfyui.server import ComfyServer
from tools.fuzzing.nodes import on_server

GRAPHS, SEED = 15, 5


def test_random_graphs_end_in_pictures_or_in_errors_that_are_meant(server: ComfyServer) -> None:
    models = server.base / "models"
    if not (models / "nsarm" / "micro_fp32.safetensors").exists():
        write_nsarm(models)
    found = list(on_server(server, SEED, range(GRAPHS)))
    assert [one for one in found if one.fault] == []
    kinds = Counter(one.kind for one in found)
    assert len(found) == GRAPHS + 1
    assert kinds["a picture"] >= 2
    assert kinds["refused by the host"] <= 2 * GRAPHS / 3
