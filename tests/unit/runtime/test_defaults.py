"""What a model's file says of its best settings, and settings that are left to the model."""

import json
from dataclasses import dataclass, field

import pytest
import torch

from helpers import models
from varsr_core.checkpoint import load_model, read_model, save_checkpoint
from varsr_core.convert import convert_files
from varsr_core.errors import CheckpointError
from varsr_core.runtime.defaults import AUTO, ModelDefaults, resolved
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr.acceleration import accelerated, in_float8
from varsr_core.varsr.family import VARSRChoices
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

FLOAT32 = torch.float32
PAPER = ModelDefaults(guidance=6.0)
OWN = ModelDefaults(guidance=2.0, color_fix="wavelet", fidelity=0.5)


@dataclass(frozen=True)
class Within:
    guidance: float = AUTO
    top_k: int = AUTO


@dataclass(frozen=True)
class Outer:
    color_fix: str = "auto"
    fidelity: float = AUTO
    within: Within = field(default_factory=Within)


def test_only_what_is_left_to_the_model_becomes_its_own():
    assert resolved(Outer(), OWN) == Outer("wavelet", 0.5, Within(2.0))
    given = Outer("lab", 0.0, Within(0.0))
    assert resolved(given, OWN) is given


@pytest.mark.parametrize(("given", "wanted"), [(-1.0, 2.0), (-0.5, 1.0), (-1.5, 3.0), (0.0, 0.0)])
def test_a_number_below_0_is_so_many_times_the_model_s_own(given, wanted):
    assert resolved(Within(given), OWN).guidance == wanted


def test_a_file_says_what_is_best_for_its_model():
    told = {"defaults": json.dumps({"guidance": 3, "later": [1]})}
    assert PAPER.of_file(told) == ModelDefaults(guidance=3)
    assert PAPER.of_file({}) is PAPER
    assert PAPER.of_file(OWN.to_metadata()) == OWN


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[1]",
        "7",
        '{"guidance": "much"}',
        '{"guidance": -1}',
        '{"guidance": NaN}',
        '{"guidance": null}',
        '{"color_fix": 3}',
        "[" * 100_000,
    ],
)
def test_nonsense_in_a_file_is_refused(text):
    with pytest.raises(CheckpointError, match="defaults"):
        PAPER.of_file({"defaults": text})


@pytest.mark.parametrize("text", ['{"fidelity": 1.5}', '{"color_fix": "sepia"}'])
def test_values_that_no_picture_can_have_are_refused_before_the_work(micro_file, tmp_path, text):
    path = tmp_path / "wrong.safetensors"
    save_checkpoint(read_model(micro_file), path, FLOAT32, metadata={"defaults": text})
    with pytest.raises(CheckpointError, match="defaults in its metadata"):
        load_model(path)


@pytest.fixture(scope="module")
def own_file(micro_file, tmp_path_factory):
    """A model whose file tells of its own settings."""
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    save_checkpoint(read_model(micro_file), path, FLOAT32, metadata=OWN.to_metadata())
    return path


def test_the_model_keeps_them_in_every_form(own_file, tmp_path):
    restorer = load_model(own_file)
    assert restorer.defaults == OWN
    model = restorer.model
    assert accelerated(model).defaults == OWN
    assert in_float8(read_model(own_file).tensors, model).defaults == OWN
    convert_files([own_file], tmp_path / "again.safetensors", torch.float16)
    assert load_model(tmp_path / "again.safetensors").defaults == OWN


def test_auto_gives_the_bits_of_the_model_s_own_values(own_file):
    restorer, image = load_model(own_file), models.picture(33, 31)
    settings = UpscaleSettings(color_fix="wavelet", fidelity=0.5)
    choices = SampleSettings(guidance=2.0), RefineSettings(guidance=2.0)
    wanted = upscale(image, 2.0, VARSRRestorer(restorer.model, *choices), settings=settings)
    found = upscale(image, 2.0, restorer, settings=UpscaleSettings(fidelity=AUTO))
    assert torch.equal(found, wanted)


def test_defaults_of_models_that_say_none_are_the_paper_s(micro_file):
    assert load_model(micro_file).defaults == PAPER
    assert VARSRChoices().sampling.guidance == AUTO
