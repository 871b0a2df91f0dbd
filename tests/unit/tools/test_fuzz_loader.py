"""The fuzzer of model files finds nothing in the loader, and what is wrong in worse ones."""

from collections import Counter

import pytest
import torch

from helpers.each import each
from tools.fuzzing import loader
from tools.fuzzing.children import in_children
from tools.fuzzing.common import draw
from varsr_core.checkpoint import load_model
from varsr_core.errors import CheckpointError

CASES, SEED = 30, 3
SOUND, CUT, RUNS = 20, 17, 235  # cases


def test_loader_withstands_some_cases(tmp_path):
    found = list(in_children(loader.trial, SEED, range(CASES), tmp_path))
    assert [one for one in found if one.fault] == []
    kinds = Counter(one.kind for one in found)
    assert set(kinds) == {"CheckpointError", "a picture"}
    assert min(kinds.values()) >= CASES // 10, "both kinds are met"


def files_of(folder, number):
    folder.mkdir()
    case = loader.make_case(draw("loader", SEED, number), folder)
    return case.what, {path.name: path.read_bytes() for path in case.files if path.is_file()}


@each("number", range(6))
def test_case_is_made_of_seed_and_number(number, tmp_path):
    assert files_of(tmp_path / f"a{number}", number) == files_of(tmp_path / f"b{number}", number)


def raises(error):
    def load(path, **options):
        raise error

    return load


@pytest.mark.parametrize(
    ("load", "fault"),
    [
        (raises(ValueError("no")), "ValueError"),
        (raises(CheckpointError("some file")), "no file is named"),
        (raises(SystemExit()), "SystemExit"),
    ],
)
def test_wrong_kind_of_error_is_a_fault(load, fault, tmp_path):
    found = loader.trial(SEED, CUT, tmp_path, load)
    assert fault in found.fault


def test_picture_that_is_not_finite_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "upscale", lambda image, *_: torch.full_like(image, torch.nan))
    found = loader.trial(SEED, SOUND, tmp_path)
    assert "not finite" in found.fault


def test_sound_file_that_is_refused_is_a_fault(tmp_path):
    def load(path, **options):
        raise CheckpointError(path.name)

    assert "a sound file" in loader.trial(SEED, SOUND, tmp_path, load).fault


def test_file_that_has_its_way_is_a_fault(tmp_path):
    def load(path, **options):
        torch.load(path, weights_only=False)
        return load_model(path, **options)

    assert "was run" in loader.trial(SEED, RUNS, tmp_path, load).fault
