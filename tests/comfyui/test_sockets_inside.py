"""Every input of every node with what it cannot take: an InputError, whatever it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.comfyui.nsarm_checkpoints import write_nsarm
from helpers.comfyui.server import HOST_VERSIONS, ONE_THREAD
from helpers.paths import INSIDE

SCRIPT = INSIDE / "sockets_inside.py"
Outcomes = dict[tuple[str, str, str], str]  # node, input, what was given -> what came of it


@pytest.fixture(scope="module")
def base(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("sockets")
    shutil.copytree(checkpoints, base / "models" / "varsr")
    write_nsarm(base / "models")
    return base


@pytest.fixture(scope="module", params=HOST_VERSIONS)
def outcomes(
    request: pytest.FixtureRequest, hosts: dict[str, Path], pack_dir: Path, base: Path
) -> Outcomes:
    """What sockets_inside.py prints."""
    command = [sys.executable, SCRIPT, hosts[request.param], pack_dir, base]
    run = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return {
        (node, name, given): outcome
        for node, inputs in json.loads(run.stdout).items()
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
    optional = {"mask", "alpha", "text", "tokens"}  # for which nothing is a choice
    assert {case for case, outcome in other.items() if outcome == "accepted"} == set(other), other
    assert {case[2] for case in other} == {"nothing"}
    assert {case[1] for case in other} == optional
