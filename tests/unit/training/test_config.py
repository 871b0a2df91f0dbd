"""The configuration file of a training run."""

import json

import pytest

from helpers.paths import NANO
from varsr_core.errors import InputError
from varsr_core.training.closed_form.tokenizer import fits
from varsr_core.training.config import read_config
from varsr_core.training.data.degradation import DegradationSettings, OrderSettings
from varsr_core.training.loop import LoopSettings
from varsr_core.training.new_model import config_from_json
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


@pytest.fixture
def default_sizes():
    return config_from_json(read_config(NANO).sizes)


def test_default_model_of_the_pack_fits_its_file_size_in_half_precision(default_sizes):
    model = VARSR(default_sizes)
    assert sum(p.numel() for p in model.parameters()) * 2 < 40e6
    assert model.config.tile_size == 128


def test_default_models_tokenizer_can_start_from_solved_weights(default_sizes):
    assert fits(default_sizes.tokenizer)


def test_groups_of_the_norms_are_the_released_ones_unless_given(default_sizes):
    sizes = read_config(NANO).sizes
    assert default_sizes.tokenizer.norm_groups == sizes["tokenizer"]["norm_groups"] == 8
    tokenizer = {k: v for k, v in sizes["tokenizer"].items() if k != "norm_groups"}
    assert config_from_json({**sizes, "tokenizer": tokenizer}).tokenizer.norm_groups == 32
