"""The configuration file of a training run."""

import json
from pathlib import Path

import pytest

from helpers.paths import NANO
from varsr_core.errors import InputError
from varsr_core.training.closed_form.tokenizer import tokenizer_fits
from varsr_core.training.config import read_config
from varsr_core.training.data.degradation import DegradationSettings, OrderSettings
from varsr_core.training.loop import LoopSettings
from varsr_core.training.starting.new_model import config_from_json
from varsr_core.varsr.model import VARSR


@pytest.fixture
def read(tmp_path):
    def read(values):
        path = tmp_path / "run.json"
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return read_config(path)

    return read


def test_empty_file_gives_the_defaults(read):
    config = read({})
    assert config.tokenizer is None
    assert config.degradation == DegradationSettings()
    assert config.zoom == 1.0


def test_nested_settings_are_read(read):
    config = read(
        {
            "isr": {"steps": 5, "betas": [0.8, 0.9]},
            "degradation": {"scale": 2, "second": {"blur_probability": 0.5}},
            "tokenizer_losses": {"perceptual": 2.0},
            "zoom": 0.5,
        }
    )
    assert config.isr == LoopSettings(steps=5, betas=(0.8, 0.9))
    assert config.degradation.scale == 2
    assert config.degradation.second == OrderSettings(blur_probability=0.5)
    assert config.tokenizer_losses.perceptual == 2.0
    assert config.zoom == 0.5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("{", "no JSON"),
        ({"epochs": 3}, "epochs"),
        ({"isr": {"rate": 3}}, "isr has rate"),
        ({"isr": {}}, "steps"),
    ],
)
def test_faults_are_named(read, values, words):
    with pytest.raises(InputError, match=words):
        read(values)


def test_recipes_are_found_by_their_name_and_under_their_old_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("nano", "nano.json", "varsr_core/training/nano.json"):
        assert read_config(Path(name)).sizes["schedule"] == [1, 2, 3, 5, 8, 12, 16], name


def test_a_file_goes_before_a_recipe_of_its_name(read, tmp_path):
    read({"seed": 5})
    (tmp_path / "run.json").rename(tmp_path / "nano.json")
    assert read_config(tmp_path / "nano.json").seed == 5


def test_neither_file_nor_recipe_is_named_with_the_recipes(tmp_path):
    with pytest.raises(InputError, match=r"none\.json is no file, and none of the recipes: .*nano"):
        read_config(tmp_path / "none.json")


@pytest.fixture
def default_sizes():
    return config_from_json(read_config(NANO).sizes)


def test_default_model_of_the_pack_fits_its_file_size_in_half_precision(default_sizes):
    model = VARSR(default_sizes)
    assert sum(p.numel() for p in model.parameters()) * 2 < 40e6
    assert model.config.tile_size == 128


def test_default_models_tokenizer_can_start_from_solved_weights(default_sizes):
    assert tokenizer_fits(default_sizes.tokenizer)


def test_groups_of_the_norms_are_the_released_ones_unless_given(default_sizes):
    sizes = read_config(NANO).sizes
    assert default_sizes.tokenizer.norm_groups == sizes["tokenizer"]["norm_groups"] == 8
    tokenizer = {k: v for k, v in sizes["tokenizer"].items() if k != "norm_groups"}
    assert config_from_json({**sizes, "tokenizer": tokenizer}).tokenizer.norm_groups == 32
