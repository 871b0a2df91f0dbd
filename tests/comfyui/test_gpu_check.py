"""The step of the card's check that needs a ComfyUI, rehearsed on the newest one."""

from __future__ import annotations

from pathlib import Path

from helpers.comfyui.server import HOST_VERSIONS
from tools.gpu import comfyui
from tools.gpu.notes import Notes
from tools.gpu.rehearsal import Rehearsal


def test_every_question_to_comfyui_is_answered(hosts: dict[str, Path], tmp_path: Path) -> None:
    notes = Notes(tmp_path / "found.json", "6 comfyui")
    comfyui.run(Rehearsal(), notes, hosts[HOST_VERSIONS[0]])
    told = {found["what"]: found for found in notes.told["findings"]}
    assert not [found for found in told.values() if "error" in found]
    runs = [found["succeeded"] for found in told.values() if "succeeded" in found]
    assert len(runs) >= 3 + 2 * 3 + 1, "three of the template and of each method, one with a text"
    assert all(runs)
    assert told["template, run 1"]["previews"] > 1
    assert told["Cancel"]["stopped"]
    assert told["Cancel"]["afterwards"]["succeeded"]
    assert "device" in told["start"]
    assert "first" in told["log"]
