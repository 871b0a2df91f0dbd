"""Networks in ComfyUI's hands, by its classic patcher and that of dynamic VRAM; see
patchers_inside.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.comfyui.inside import DYNAMIC, KINDS, told_inside
from helpers.comfyui.nsarm_checkpoints import write_nsarm

NETWORKS = 6  # VARSR, VARSR in fp8, three parts of NSARM, the text encoder
MODELS = ("VARSR", "VARSR fp8", "NSARM fp8")
SHORT = "memory is short: tiles at once are reduced from "


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patchers")
    (folder / "models").mkdir()
    write_nsarm(folder / "models")
    return folder


@pytest.fixture(scope="module", params=KINDS)
def inside(
    request: pytest.FixtureRequest, hosts: dict[str, Path], pack_dir: Path, base: Path
) -> dict[str, Any]:
    """What patchers_inside.py prints."""
    found = told_inside("patchers_inside", hosts, request.param, pack_dir, base)
    assert ("dynamic" in found) == (DYNAMIC in request.param)
    return found


def test_every_network_gets_the_patcher_that_comfyui_names_at_that_time(inside) -> None:
    """main.py names another one once modules have been imported."""
    kinds = inside["kinds"]
    assert kinds["named later"] == ["Named"] * NETWORKS
    # On a CPU the patcher of dynamic VRAM makes a classic one.
    assert kinds["own"] == kinds["at last"] == ["ModelPatcher"] * NETWORKS


@pytest.mark.parametrize("weights", ["as loaded", "fp8", "fp8 before"])
def test_recordings_are_of_weights_that_stay_on_the_card(inside, weights: str) -> None:
    dynamic, classic = (inside["recorded"][kind][weights] for kind in ("dynamic", ""))
    assert dynamic["kind"] == "ModelPatcher"
    assert not dynamic["shares layers"], "two kinds of patchers never hold one layer"
    assert classic["kind"] == "Said"
    assert classic["shares layers"] == (weights != "fp8"), "no second model where none is needed"
    for found in (dynamic, classic):
        assert found["loads what runs"]
        assert found["recorder"]
        assert found["fp8"] == (weights != "as loaded")


def test_tiles_at_once_are_those_of_the_card_whatever_lies_there(inside) -> None:
    assert {found["at once"] for found in inside["room"].values()} == {14}


def test_other_models_leave_the_card_only_for_tiles_that_there_are(inside) -> None:
    room = inside["room"]
    assert room["other model"]["fit"] == room["empty card"]["fit"] == 14
    assert not room["other model"]["other stays"]
    assert room["other model, one tile"]["other stays"]
    quiet = ("empty card", "other model", "other model, one tile", "other programs, few tiles")
    assert [room[case]["told"] for case in quiet] == [[]] * 4


def test_other_programs_stay_and_fewer_tiles_run_which_is_told(inside) -> None:
    room = inside["room"]
    assert room["other programs, few tiles"]["fit"] == 4
    for case, fit in (("other programs", 7), ("no room", 1)):
        assert room[case]["fit"] == fit
        assert [line.partition(";")[0] for line in room[case]["told"]] == [f"{SHORT}14 to {fit}"]


def test_weights_that_dynamic_vram_counts_as_room_are_not_taken_for_it(inside) -> None:
    assert inside["beside dynamic"] == 15


@pytest.fixture
def dynamic(inside, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Of each model; where there is no dynamic VRAM there is nothing to be right."""
    return inside.get("dynamic", {})


@pytest.mark.parametrize("when", ["loaded", "made room", "back"])
def test_every_stage_runs_while_dynamic_vram_moves_weights(dynamic, when: str) -> None:
    for name in dynamic:
        assert dynamic[name]["dynamic"]
        assert dynamic[name][when]["runs"], name
        assert dynamic[name][when]["own weights"], name


def test_leaf_parameters_lie_on_the_card_while_a_model_is_loaded(dynamic) -> None:
    for name, found in dynamic.items():
        for when in ("loaded", "back"):
            assert "LeafParameter" in found[when]["there"], name
            assert "LeafParameter" not in found[when]["elsewhere"], name
            assert "Linear" in found[when]["elsewhere"], "which come as they run"
        assert found["made room"]["there"] == []
        assert found["given back"], "as they were"


def test_all_models_were_tried_with_dynamic_vram(inside) -> None:
    assert tuple(inside.get("dynamic", MODELS)) == MODELS
