"""Every input of every node with what it cannot take: an InputError, whatever it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers import k2n_files
from helpers.comfyui.inside import KINDS, told_inside
from helpers.comfyui.nsarm_checkpoints import write_nsarm

Outcomes = dict[tuple[str, str, str], str]  # node, input, what was given -> what came of it


@pytest.fixture(scope="module")
def base(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("sockets")
    shutil.copytree(checkpoints, base / "models" / "varsr")
    write_nsarm(base / "models")
    k2n_files.write_fitting(base / "models" / "varsr" / "k2n")
    return base


@pytest.fixture(scope="module", params=KINDS)
def outcomes(
    request: pytest.FixtureRequest, hosts: dict[str, Path], pack_dir: Path, base: Path
) -> Outcomes:
    """What sockets_inside.py prints."""
    told = told_inside("sockets_inside", hosts, request.param, pack_dir, base)
    return {
        (node, name, given): outcome
        for node, inputs in told.items()
        for name, values in inputs.items()
        for given, outcome in values.items()
    }


def test_what_fits_is_accepted(outcomes: Outcomes) -> None:
    good = {case: outcome for case, outcome in outcomes.items() if case[2].endswith("good")}
    assert len(good) > 30
    assert set(good.values()) == {"accepted"}, good


def test_what_does_not_fit_is_an_input_error(outcomes: Outcomes) -> None:
    bad = {case: outcome for case, outcome in outcomes.items() if not case[2].endswith("good")}
    other = {case: outcome for case, outcome in bad.items() if outcome != "InputError"}
    assert len(bad) > 1500
    optional = {"mask", "alpha", "text", "tokens", "k2n"}  # for which nothing is a choice
    assert {case for case, outcome in other.items() if outcome == "accepted"} == set(other), other
    assert {case[2] for case in other} == {"nothing"}
    assert {case[1] for case in other} == optional
