"""Published degradations by name, with their exact numbers."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from varsr_core.errors import InputError
from varsr_core.training.config import read_config
from varsr_core.training.data.degradation import (
    PUBLISHED,
    DegradationSettings,
    draw_recipe,
)
from varsr_core.training.data.presets import VARSR, degradation_preset

KERNELS = {
    "kernel_sizes": (21,),
    "kernel_probabilities": (0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
    "generalized_beta": (0.5, 4),
    "plateau_beta": (1, 2),
    "sinc_probability": 0.1,
}
FIRST = {
    "blur_probability": 1,
    "sigma": (0.2, 3),
    "resize_probabilities": (0.2, 0.7, 0.1),
    "resize_range": (0.3, 1.5),
    "gaussian_probability": 0.5,
    "noise_sigma": (1, 15),
    "poisson_scale": (0.05, 2),
    "grey_probability": 0.4,
    "jpeg_quality": (60, 95),
}
SECOND = {
    "blur_probability": 0.5,
    "sigma": (0.2, 1.5),
    "resize_probabilities": (0.3, 0.4, 0.3),
    "resize_range": (0.6, 1.2),
    "gaussian_probability": 0.5,
    "noise_sigma": (1, 12),
    "poisson_scale": (0.05, 1),
    "grey_probability": 0.4,
    "jpeg_quality": (60, 100),
}


@pytest.fixture
def read(tmp_path):
    def read(degradation):
        path = tmp_path / "run.json"
        path.write_text(json.dumps({"degradation": degradation}))
        return read_config(path).degradation

    return read


def test_varsr_has_the_numbers_of_its_public_code():
    found = asdict(VARSR)
    for order, numbers in (("first", FIRST), ("second", SECOND)):
        for name, value in {**KERNELS, **numbers}.items():
            assert found[order][name] == value, (order, name)
    assert VARSR.scale == 4
    assert (VARSR.final_sinc_probability, VARSR.sinc_first_probability) == (0.8, 0.5)


def test_draws_of_varsr_stay_within_its_numbers():
    generator = torch.Generator().manual_seed(1)
    recipes = [draw_recipe(VARSR, generator) for _ in range(1500)]
    for order, numbers in (("first", FIRST), ("second", SECOND)):
        drawn = [getattr(recipe, order) for recipe in recipes]
        assert {one.blur.size for one in drawn if one.blur} == {21}
        blurred = sum(one.blur is not None for one in drawn) / len(drawn)
        assert blurred == pytest.approx(numbers["blur_probability"], abs=0.06)
        low, high = numbers["jpeg_quality"]
        assert {one.quality for one in drawn} == set(range(low, high + 1))
        for name, values in (
            ("noise_sigma", [one.strength for one in drawn if one.gaussian]),
            ("poisson_scale", [one.strength for one in drawn if not one.gaussian]),
            ("resize_range", [one.factor for one in drawn]),
        ):
            low, high = numbers[name]
            near = 0.03 * (high - low)
            assert low <= min(values) < low + near, name
            assert high - near < max(values) <= high, name
    assert {r.final_sinc.size for r in recipes if r.final_sinc} == {21}


def test_names_and_the_old_one_are_read(read):
    assert read("varsr") == VARSR
    assert read("realesrgan") == read("published") == read({}) == DegradationSettings()


def test_changes_to_a_preset_leave_the_rest_of_it(read):
    found = read({"preset": "varsr", "scale": 2, "second": {"noise_sigma": [2, 3]}})
    assert found == replace(VARSR, scale=2, second=replace(VARSR.second, noise_sigma=(2, 3)))


def test_values_without_a_preset_are_read_as_ever(read):
    """What an order does not say has the default of an order, not that of the second one."""
    found = read({"second": {"noise_sigma": [2, 3]}})
    assert found.second == replace(PUBLISHED.first, noise_sigma=(2, 3))
    assert found.first == PUBLISHED.first


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("bsr", "degradation: 'bsr' is no preset of a degradation: realesrgan, varsr"),
        ({"preset": "bsr"}, "'bsr' is no preset"),
        (4, "degradation is 4; it is a preset's name"),
        ({"preset": "varsr", "third": {}}, "degradation has third"),
        ({"first": {"resize_probabilities": [0.5, 0.5, 0.5]}}, r"first: .* sum to 1\.5"),
    ],
)
def test_faults_of_a_degradation_are_told(read, given, words):
    with pytest.raises(InputError, match=words):
        read(given)


def test_an_unknown_preset_is_a_value_error_for_callers():
    with pytest.raises(ValueError, match="no preset"):
        degradation_preset("other")
