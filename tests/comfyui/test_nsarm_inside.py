"""Promises of the NSARM nodes that no client sees: offloading and lack of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.comfyui.inside import KINDS, told_inside
from helpers.comfyui.nsarm_checkpoints import write_nsarm


@pytest.fixture(scope="module", params=KINDS)
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
    return told_inside("nsarm_inside", hosts, request.param, pack_dir, base)


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
