"""The check of a graphics card, rehearsed: all of it on the CPU, its start on a pretended card."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from helpers.card import card, device
from helpers.each import each
from helpers.paths import ROOT
from tools.benchmarks.common import read_picture
from tools.gpu import children
from tools.gpu.acceleration import METHODS, PRECISIONS
from tools.gpu.cuda import covered
from tools.gpu.listing import LARGEST, listed
from tools.gpu.networks import PHOTOGRAPHS, PICTURES, read_png
from tools.gpu.notes import Notes
from tools.gpu.parts import PARTS, chosen
from tools.gpu.rehearsal import Rehearsal
from tools.gpu.report import report

# In a Python that has no more than a bare machine; in one process, which is sooner done, and where
# another allocator would have no say.
ALL_PARTS = """
import sys
sys.path[:0] = [".", "tests"]
sys.modules.update(dict.fromkeys(("PIL", "requests", "websocket", "torchvision", "scipy", "tqdm")))
import torch
torch.set_num_threads(1)
from pathlib import Path
from tools.gpu.notes import Notes
from tools.gpu.parts import PARTS
from tools.gpu.rehearsal import Rehearsal
for part in PARTS:
    if part.environment:
        continue
    notes = Notes(part.file(Path(sys.argv[1])), part.name)
    part.run(Rehearsal(), notes, {"model": None, "comfyui": None})
    notes.end("done")
"""


class OnPretendedCard(Rehearsal):
    def __init__(self):
        super().__init__()
        self.device = device()
        two = {"few_tiles": (16, 28), "many_tiles": (16, 28)}
        self.amount = replace(self.amount, modes=("phased",), **two)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The listed files and nothing else."""
    folder = tmp_path_factory.mktemp("carried")
    for path in listed(ROOT):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


@pytest.fixture(scope="module")
def rehearsed(copied, tmp_path_factory):
    """Name of a part -> what it found."""
    out = tmp_path_factory.mktemp("found")
    done = run_python(copied, "-c", ALL_PARTS, out)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(part.file(out).read_text()) for part in PARTS if not part.environment]


def run_python(folder, *arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def findings(parts):
    return [(part["part"], found) for part in parts for found in part["findings"]]


def test_listed_files_are_few_and_leave_goldens_behind():
    paths = [ROOT / path for path in listed(ROOT)]
    assert 20e6 < sum(path.stat().st_size for path in paths) <= LARGEST
    assert not [path for path in paths if "tiny" in path.name or "trace" in path.name]


def test_every_part_is_rehearsed_and_none_fails(rehearsed):
    assert {part["part"][0] for part in rehearsed} == {str(part.step) for part in PARTS}
    assert all(part["findings"] and part["status"] == "done" for part in rehearsed)
    failed = [(part, found) for part, found in findings(rehearsed) if "error" in found]
    assert not failed


def test_cpu_beside_itself_is_right_and_precisions_differ(rehearsed):
    told = [found for part, found in findings(rehearsed) if part == "1 parity"]
    judged = [found["right"] for found in told if "right" in found]
    assert len(judged) == 4
    assert all(judged)
    alike = {found["what"]: found["tokens alike"] for found in told if "tokens alike" in found}
    assert alike["micro, fp8, guidance 6"] < alike["micro, fp16, guidance 6"] <= 1


def test_recorded_and_halved_work_gives_the_same_bits(rehearsed):
    told = [found for part, found in findings(rehearsed) if part[0] in "35"]
    same = {found["what"]: found["same bits"] for found in told if "same bits" in found}
    assert len(same) >= len(METHODS) * len(PRECISIONS) + 2
    assert all(same.values()), same
    assert max(found.get("halved", 0) for found in told) == 1


def test_row_of_each_precision_has_every_method(rehearsed, tmp_path):
    files = []
    for part in rehearsed:
        files.append(tmp_path / part["part"])
        files[-1].write_text(json.dumps(part))
    rows = [line.split(" | ") for line in report(files, "the command").splitlines()]
    cells = {row[1]: row[2:] for row in rows if len(row) > 2}
    for precision in PRECISIONS:
        assert all("/" in cell for cell in cells[precision][: len(METHODS)])
    assert all(cells["bf16"])


@each("part", PARTS[:3])
def test_first_steps_run_on_a_pretended_card(part, tmp_path):
    notes = Notes(part.file(tmp_path), part.name)
    with card():
        part.run(OnPretendedCard(), notes, {"model": None})
    told = notes.told["findings"]
    assert told
    assert not [found for found in told if "error" in found]
    assert all(found.get("right", True) for found in told)


def test_row_says_what_cannot_be_had_and_leaves_out_what_did_not_fit(tmp_path):
    def row(**found):
        told = {"what": "compile, bf16", "third ms": 90.0, "many third ms a tile": 40.0, **found}
        part = {"part": "3 acceleration compile", "status": "done", "findings": [told]}
        (tmp_path / "part.json").write_text(json.dumps(part))
        lines = report([tmp_path / "part.json"], "the command").splitlines()
        return next(line for line in lines if "| bf16 |" in line).split(" | ")[3]

    assert row() == "90.0 / 40.0"
    assert row(**{"many halved": 1}) == "90.0"
    assert row(**{"fell back": True}) == "cannot be had"


def test_script_writes_the_table(copied, tmp_path):
    arguments = ["--rehearse", "--steps", "0,6", "--out", tmp_path]
    done = run_python(copied, "tools/gpu_check.py", *arguments)
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "report.md").read_text()
    assert "### 0 facts: done" in told
    assert "not brought --comfyui names no folder" in told
    assert told in done.stdout


def test_without_a_card_the_script_says_what_to_do(copied, tmp_path):
    done = run_python(copied, "tools/gpu_check.py", "--steps", "0", "--out", tmp_path)
    assert torch.cuda.is_available() or "finds no graphics card" in done.stderr
    assert torch.cuda.is_available() or not list(tmp_path.iterdir())


def test_what_hangs_or_crashes_is_ended_and_told(tmp_path):
    def ended(code, limit=20.0):
        return children.run([sys.executable, "-c", code], limit, tmp_path / "log")

    assert ended("import time; time.sleep(60)", 0.3) == "stopped after 0 s, its limit"
    assert ended("import os; os.abort()").startswith("ended with -6")
    assert ended("raise SystemExit('no card')") == "ended with 1: no card"
    assert ended("") == "done"


def test_what_was_found_before_the_end_stays(tmp_path):
    part = PARTS[1]
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from pathlib import Path\nfrom tools.gpu.notes import Notes\n"
        f"Notes(Path({str(part.file(tmp_path))!r}), 'x').add('early', {{'found': 1}})\n"
        "raise SystemExit('late')"
    )
    (file,) = children.run_all([part], [sys.executable, "-c", code], tmp_path, 9)
    told = json.loads(file.read_text())
    assert told["findings"] == [{"what": "early", "found": 1}]
    assert told["status"] == "ended with 1: late"


def test_step_for_which_no_time_is_left_says_so(tmp_path):
    (file,) = children.run_all(PARTS[1:2], ["false"], tmp_path, 0.5)
    assert json.loads(file.read_text())["status"] == (
        "not run: 30 s of 0.5 minutes are left, and it takes 60"
    )


def test_steps_are_written_as_numbers_and_spans():
    assert [part.step for part in chosen("0-2, 7")] == [0, 1, 2, 7]
    assert len({part.variant for part in chosen("3")}) == len(METHODS) + 1
    for wrong in ("8", "2-1", "all", ""):
        with pytest.raises(ValueError, match=r"step|literal"):
            chosen(wrong)


@each("name", PHOTOGRAPHS)
def test_photographs_are_read_without_a_library(name):
    path = PICTURES / f"{name}.png"
    assert torch.equal(read_png(path), read_picture(path))


def test_busy_time_counts_what_overlaps_once():
    assert covered([(0, 2), (1, 3), (5, 6), (5, 5.5)]) == 4
