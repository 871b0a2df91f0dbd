"""Promises that no client sees: attention, offloading and lack of memory. See comfy_inside.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.comfyui.server import HOST_VERSIONS, ONE_THREAD
from helpers.paths import INSIDE

SCRIPT = INSIDE / "comfy_inside.py"
EXACT = 1e-6
BATCHED = 1e-4  # several tiles at once are added up in another order


@pytest.fixture(scope="module", params=HOST_VERSIONS)
def inside(
    request: pytest.FixtureRequest, hosts: dict[str, Path], pack_dir: Path, checkpoints: Path
) -> dict[str, Any]:
    """What comfy_inside.py prints."""
    base = checkpoints.parent.parent
    command = [sys.executable, SCRIPT, hosts[request.param], pack_dir, base]
    run = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_every_kernel_of_comfyui_attends_with_softmax_scale_1(inside: dict[str, Any]) -> None:
    assert max(inside["attention"]["differences"].values()) < 1e-4, inside["attention"]


def test_the_cpu_takes_the_kernel_of_the_core(inside: dict[str, Any]) -> None:
    assert inside["attention"]["cpu takes the core's"]


def test_every_parameter_can_be_offloaded(inside: dict[str, Any]) -> None:
    partial = inside["partial load"]
    assert partial["partial"]
    assert partial["modules"] > 100
    # ComfyUI overlooks parameters of a module with children, and buffers.
    assert partial["with children"] == []
    assert partial["buffers"] == []
    assert partial["not cast"] in ([], ["LeafParameter"])  # which moves its factor itself


def test_offloaded_model_gives_the_same_picture(inside: dict[str, Any]) -> None:
    assert inside["partial load"]["difference"] < EXACT


@pytest.mark.parametrize("weights", ["as loaded", "fp8"])
def test_every_layer_copies_its_weights_beside_the_work_before(
    inside: dict[str, Any], weights: str
) -> None:
    """On a stream of ComfyUI's for each time that it runs, given back behind its work."""
    found = inside["copies"][weights]["nothing there"]
    assert found["layers"] > 100
    assert found["left out"] == ["quantizer.phi.3"]  # the last scale's, which is skipped
    assert found["without a stream"] == ["LeafParameter"]  # some bytes, copied where the work runs
    assert found["unfinished"] == 0


@pytest.mark.parametrize("weights", ["as loaded", "fp8"])
def test_only_layers_that_wait_elsewhere_are_copied(inside: dict[str, Any], weights: str) -> None:
    found = inside["copies"][weights]["half there"]
    assert 0 < found["there"] < found["layers"]
    assert found["for nothing"] == []
    assert found["without a stream"] in ([], ["LeafParameter"])
    assert found["unfinished"] == 0


def test_tiles_that_do_not_fit_together_are_tried_again_apart(inside: dict[str, Any]) -> None:
    assert inside["out of memory"]["2"]["tried"] == [4, 2, 2, 2]
    assert inside["out of memory"]["2"]["difference"] < BATCHED
    assert inside["out of memory"]["1"]["tried"] == [4, 2, 1, 1, 1, 1, 1, 1]
    assert inside["out of memory"]["1"]["difference"] < EXACT


def test_a_model_run_another_way_always_has_the_weights_of_the_plain_one(
    inside: dict[str, Any],
) -> None:
    found = inside["acceleration"]
    assert found["plain"] == 0
    assert found["changed by patches"] > 0.01
    assert found["patched"] == 0
    assert found["unpatched"] == 0


def test_8_bit_weights_are_made_of_patched_ones_whether_loaded_or_not(
    inside: dict[str, Any],
) -> None:
    assert max(inside["acceleration"]["own weights"]) < EXACT


def test_offloaded_model_in_8_bits_gives_the_same_picture(inside: dict[str, Any]) -> None:
    assert inside["acceleration"]["partial"] < EXACT
