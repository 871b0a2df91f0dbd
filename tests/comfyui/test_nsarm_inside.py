"""Promises of the NSARM nodes that no client sees: offloading and lack of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.comfyui.nsarm_checkpoints import write_nsarm
from helpers.comfyui.server import HOST_VERSIONS, ONE_THREAD
from helpers.paths import INSIDE

SCRIPT = INSIDE / "nsarm_inside.py"


@pytest.fixture(scope="module", params=HOST_VERSIONS)
def inside(
    request: pytest.FixtureRequest,
    hosts: dict[str, Path],
    pack_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What nsarm_inside.py prints."""
    base = tmp_path_factory.mktemp("nsarm")
    (base / "models").mkdir()
    write_nsarm(base / "models")
    command = [sys.executable, SCRIPT, hosts[request.param], pack_dir, base]
    run = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("file", ["micro_fp32", "micro_bf16", "micro_fp8"])
def test_every_parameter_can_be_offloaded_and_the_picture_stays(
    inside: dict[str, Any], file: str
) -> None:
    partial = inside["partial load"][file]
    assert partial["partial"] == [True, True, True]
    assert partial["with children"] == []
    assert partial["buffers"] == []
    assert partial["not cast"] == ["LeafParameter"]  # which moves its tensor itself
    assert partial["difference"] < 1e-6


@pytest.mark.parametrize("file", ["micro_bf16", "micro_fp8"])
def test_every_layer_copies_its_weights_beside_the_work_before(
    inside: dict[str, Any], file: str
) -> None:
    """On a stream of ComfyUI's for each time that it runs, given back behind its work."""
    found = inside["copies"][file]["nothing there"]
    assert found["layers"] > 100
    assert found["left out"] == []
    assert found["without a stream"] == ["LeafParameter"]  # small, copied where the work runs
    assert found["unfinished"] == 0


@pytest.mark.parametrize("file", ["micro_bf16", "micro_fp8"])
def test_only_layers_that_wait_elsewhere_are_copied(inside: dict[str, Any], file: str) -> None:
    found = inside["copies"][file]["half there"]
    assert 0 < found["there"] < found["layers"]
    assert found["for nothing"] == []
    assert found["without a stream"] in ([], ["LeafParameter"])
    assert found["unfinished"] == 0


def test_tiles_that_do_not_fit_together_are_tried_again_apart(inside: dict[str, Any]) -> None:
    assert inside["out of memory"]["2"]["tried"] == [4, 2, 2, 2]
    assert inside["out of memory"]["1"]["tried"] == [4, 2, 1, 1, 1, 1, 1, 1]
    # A bit may flip where several tiles at once are added up in another order.
    assert max(inside["out of memory"][fitting]["difference"] for fitting in "12") < 1e-3


def test_parts_are_apart_and_asked_for_when_they_work(inside: dict[str, Any]) -> None:
    parts = inside["parts"]
    assert parts["all"]
    assert parts["apart"]
    of_a_tile = ["autoencoder", "map network", "transformer"]  # one at a time on a CPU
    tiles = parts["asked"].count("map network")
    assert tiles > 1
    assert parts["asked"] == ["transformer", *of_a_tile * tiles, "autoencoder"]
