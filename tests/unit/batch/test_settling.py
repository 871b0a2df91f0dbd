"""What the options leave to the model: its own values, or those by which a folder was begun."""

import json

import pytest
import torch

from helpers import batch_files as files
from helpers import film_files as films
from varsr_core.batch.__main__ import INTERRUPTED
from varsr_core.batch.cli import parse
from varsr_core.batch.model import Model
from varsr_core.checkpoint import read_model, save_checkpoint
from varsr_core.errors import InputError
from varsr_core.runtime.defaults import AUTO, ModelDefaults
from varsr_core.varsr.presets import PRESETS

OWN = ModelDefaults(guidance=2.0, color_fix="none")
FIRST = "--guidance", "6", "--color-fix", "adain"
TODAY = "--guidance", "2", "--color-fix", "none"


@pytest.fixture(scope="module")
def model(micro_file, tmp_path_factory):
    """The same weights in two files: one says what is best for them, as later versions do."""
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    save_checkpoint(read_model(micro_file), path, torch.float32, metadata=OWN.to_metadata())
    return path


@pytest.fixture
def run(model, tmp_path, capsys, caplog):
    """The names of pictures that a run restores."""
    for number in range(2):
        files.save(tmp_path / f"in/p{number}.png", files.pixels(seed=number))

    def done(*options, out="out", source="in"):
        caplog.clear()
        base = ("--model", model, *files.QUICK, "--json")
        assert files.command(tmp_path / source, tmp_path / out, *base, *options) == 0
        told = files.events(capsys.readouterr().out, "file")
        return [event["output"].rpartition("/")[2] for event in told]

    return done


def test_what_is_not_given_is_the_model_s_own(run, tmp_path):
    assert run() == ["p0.png", "p1.png"]
    assert run(*TODAY, out="given") == ["p0.png", "p1.png"]
    assert run(*FIRST, out="other") == ["p0.png", "p1.png"]
    same, given, other = (files.hashes(tmp_path / name) for name in ("out", "given", "other"))
    assert same == given != other


def test_journal_holds_the_values_and_not_that_they_were_left_out(run):
    run()
    assert run(*TODAY) == []


def test_folder_of_an_earlier_version_is_gone_on_with(run, tmp_path, caplog):
    run(*FIRST)
    files.save(tmp_path / "in/new.png", files.pixels(seed=7))
    assert run() == ["new.png"]
    assert "guidance 6.0, --color-fix adain" in caplog.text
    assert run(*FIRST) == []
    assert "earlier versions" not in caplog.text


def test_options_that_are_given_are_not_what_the_folder_was_begun_with(run):
    run(*FIRST)
    assert run(*TODAY) == ["p0.png", "p1.png"]


def test_film_of_an_earlier_version_is_gone_on_with(run, tmp_path, monkeypatch, model, caplog):
    source, restored, restore = tmp_path / "film/clip.mp4", [], Model.restore
    source.parent.mkdir()
    films.make_film(source, 100)
    stop_at = 50

    def counted(model, pixels, mask, on_progress):
        if len(restored) == stop_at:
            raise KeyboardInterrupt
        restored.extend(pixels)
        return restore(model, pixels, mask, on_progress)

    monkeypatch.setattr(Model, "restore", counted)
    base = "--model", model, *files.QUICK
    assert files.command(source, tmp_path / "films", *base, *FIRST) == INTERRUPTED
    restored.clear()
    stop_at = -1
    assert files.command(source, tmp_path / "films", *base) == 0
    assert len(restored) == 100 - 48
    assert "earlier versions" in caplog.text


def test_preset_gives_the_results_of_its_values(run, tmp_path):
    values = PRESETS["faithful"]
    given = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    run("--preset", "faithful")
    run(*given, out="given")
    assert files.hashes(tmp_path / "out") == files.hashes(tmp_path / "given")
    assert run(*given) == []


def test_preset_beside_another_value_is_refused():
    with pytest.raises(InputError, match="--preset creative sets --guidance"):
        parse(["in", "out", "--preset", "creative", "--guidance", "2"])
    found = parse(["in", "out", "--preset", "balanced", "--seed", "3"]).options
    assert found.choices.sampling.guidance == found.choices.refining.guidance == AUTO


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_set_the_same_things_and_enter_the_hash_by_their_values(preset):
    assert PRESETS[preset].keys() == PRESETS["balanced"].keys()
    found = parse(["in", "out", "--preset", preset]).options
    assert json.dumps(PRESETS[preset]["fidelity"]) == json.dumps(found.settings.fidelity)
