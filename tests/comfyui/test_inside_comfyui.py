"""Promises that no client sees: attention, offloading and lack of memory. See comfy_inside.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.comfyui.inside import KINDS, told_inside

EXACT = 1e-6
BATCHED = 1e-4  # several tiles at once are added up in another order


@pytest.fixture(scope="module", params=KINDS)
def inside(
    request: pytest.FixtureRequest, hosts: dict[str, Path], pack_dir: Path, checkpoints: Path
) -> dict[str, Any]:
    """What comfy_inside.py prints."""
    base = checkpoints.parent.parent
    return told_inside("comfy_inside", hosts, request.param, pack_dir, base)


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


def test_tiles_that_overflow_in_float16_are_those_of_float32(inside: dict[str, Any]) -> None:
    assert inside["overflow"] == {"difference": 0, "dtype": "torch.float16", "told": 1}


def test_core_s_node_for_upscale_models_tries_again_when_memory_is_short(
    inside: dict[str, Any],
) -> None:
    found = inside["as upscale model"]
    assert found["difference"] == 0
    assert "Memory does not suffice" in found["told"]
    assert found["tries"] == 3  # tiles of 512, 256 and 128, as ComfyUI halves them


def test_a_model_run_another_way_always_has_the_weights_of_the_plain_one(
    inside: dict[str, Any],
) -> None:
    found = inside["acceleration"]
    assert found["plain"] == 0
    assert found["changed by patches"] > 0.01
    assert found["patched"] == 0
    assert found["unpatched"] == 0


def test_recordings_last_from_run_to_run_until_comfyui_unloads_the_model(
    inside: dict[str, Any],
) -> None:
    """It detaches a model before each run of it, too, and tells apart what is meant by that."""
    found = inside["recorded"]
    assert [difference for *_, difference in found["runs"]] == [0] * 5
    counts = [run[:2] for run in found["runs"]]
    assert counts == [counts[0]] * 5
    assert counts[0][0] == counts[0][1] >= 6
    assert found["kept"] > 10_000
    assert found["unloaded"] == [0, 0]


def test_recorded_model_is_one_of_its_own_where_weights_would_have_no_place(
    inside: dict[str, Any],
) -> None:
    """As with dynamic VRAM, where they come to the card layer by layer."""
    found = inside["recorded"]
    assert not found["dynamic"]
    assert found["apart"]
    assert found["difference"] == 0


def test_8_bit_weights_are_made_of_patched_ones_whether_loaded_or_not(
    inside: dict[str, Any],
) -> None:
    assert max(inside["acceleration"]["own weights"]) < EXACT


def test_offloaded_model_in_8_bits_gives_the_same_picture(inside: dict[str, Any]) -> None:
    assert inside["acceleration"]["partial"] < EXACT
