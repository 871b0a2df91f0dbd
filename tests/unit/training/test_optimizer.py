"""Which weights decay, and in which numbers a step computes."""

import dataclasses

import pytest
import torch

from helpers.each import each
from helpers.training import SIZES, settings
from varsr_core.errors import InputError
from varsr_core.training.loop import STATE_FILE, Loop
from varsr_core.training.stages.restorer import ISRLoss
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.training.steps.optimizer import parameter_groups


def decays(decay):
    """Names of the weights that decay, and of those that do not."""
    model = new_model(config_from_json(SIZES), 0)
    parts = ISRLoss(model).trained()
    groups = parameter_groups(parts, [1.0] * len(parts), 0.05, decay)
    names = {id(p): name for name, p in model.named_parameters()}
    split = {
        wanted: {
            names[id(p)] for g in groups if bool(g["weight_decay"]) == wanted for p in g["params"]
        }
        for wanted in (True, False)
    }
    assert not split[True] & split[False]
    return split[True], split[False]


def test_public_groups_spare_biases_norms_refiner_and_scale_embedding():
    all_matrices, vectors = decays("matrices")
    found, spared = decays("public")
    assert found | spared == all_matrices | vectors
    refiner = {name for name in all_matrices if name.startswith("refiner.")}
    assert len(refiner) > 5
    assert all_matrices - found == {*refiner, "transformer.scale_embedding.weight"}
    assert not any(name.endswith("bias") for name in found)
    assert "transformer.blocks.0.qkv.weight" in found


def test_rates_of_parts_are_kept_in_public_groups():
    model = new_model(config_from_json(SIZES), 0)
    parts = [model.transformer, model.refiner]
    groups = parameter_groups(parts, [0.1, 1.0], 0.05, "public")
    refiner = {id(p) for p in model.refiner.parameters()}
    for group in groups:
        assert all((id(p) in refiner) == (group["factor"] == 1.0) for p in group["params"])
    assert sum(len(g["params"]) for g in groups) == sum(len(list(p.parameters())) for p in parts)


@pytest.mark.parametrize(
    ("name", "value"), [("decay", "none"), ("precision", "fp8"), ("accumulate", 0)]
)
def test_unknown_choices_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        settings(1, **{name: value})


def loop_of(folder, step, **chosen):
    folder.mkdir(exist_ok=True)
    layer = torch.nn.Linear(4, 4, bias=False)
    torch.nn.init.constant_(layer.weight, 0.5)
    chosen = {"weight_decay": 0.0, "warmup_share": 0.0, "flat_share": 1.0, **chosen}
    loop = Loop([layer], settings(4, **chosen), folder, lambda: None)
    return loop, layer, lambda number, generator: step(layer, number)


def product(layer, number):
    return {"loss": layer(torch.full((1, 4), 1.0 + number)).float().square().mean()}


@pytest.mark.parametrize(
    ("precision", "wanted"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", None)]
)
@each("autocast", [True, False])
def test_products_are_in_the_dtype_that_is_asked_for(tmp_path, precision, wanted, autocast):
    seen = []

    def step(layer, number):
        seen.append(layer(torch.ones(1, 4)).dtype)
        return product(layer, number)

    loop, _, stepping = loop_of(tmp_path, step, precision=precision, autocast=autocast)
    loop.run(stepping)
    assert set(seen) == {wanted or torch.float32}


def test_small_gradients_outlast_float16(tmp_path):
    """Without a scale they would be 0 and the weights would stay; Adam adds 1e-8 to their size."""

    def step(layer, number):
        return {"loss": layer(torch.ones(1, 4)).sum().float() * 2e-8}

    loop, layer, stepping = loop_of(tmp_path, step, precision="fp16")
    loop.run(stepping, until=1)
    assert (0.5 - layer.weight).min().item() == pytest.approx(2 / 3 * 1e-3, rel=0.05), "of Adam"


def test_a_step_that_overflows_is_passed_over(tmp_path):
    def step(layer, number):
        return {"loss": layer(torch.ones(1, 4)).float().sum() * (1e38 if number == 0 else 1.0)}

    loop, layer, stepping = loop_of(tmp_path, step, precision="fp16")
    before, scale = layer.weight.detach().clone(), loop.precision.scaler.get_scale()
    loop.run(stepping, until=1)
    assert torch.equal(layer.weight, before)
    assert loop.precision.scaler.get_scale() == scale / 2
    loop.run(stepping, until=2)
    assert not torch.equal(layer.weight, before)


def test_scale_is_saved_and_taken_up_again(tmp_path):
    def step(layer, number):
        return {"loss": layer(torch.ones(1, 4)).float().sum() * (1e38 if number == 0 else 1.0)}

    broken, layer, stepping = loop_of(tmp_path / "a", step, precision="fp16")
    broken.run(stepping, until=2)
    resumed, _, stepping = loop_of(tmp_path / "a", step, precision="fp16")
    assert resumed.resume()
    assert resumed.precision.state() == broken.precision.state()
    resumed.run(stepping)
    whole, layer, stepping = loop_of(tmp_path / "b", step, precision="fp16")
    whole.run(stepping)
    assert torch.equal(resumed.parameters[0], layer.weight)


def test_a_run_may_go_on_in_float16(tmp_path):
    loop, _, stepping = loop_of(tmp_path, product, precision="fp32")
    loop.run(stepping, until=2)
    assert "scaler" not in torch.load(tmp_path / STATE_FILE)
    loop, _, stepping = loop_of(tmp_path, product, precision="fp16")
    assert loop.resume()
    assert loop.run(stepping)


def test_auto_is_what_autocast_says(tmp_path, monkeypatch):
    monkeypatch.setattr("varsr_core.training.steps.precision.fast_on_cpu", lambda: {torch.bfloat16})
    for autocast, wanted in ((True, torch.bfloat16), (False, None)):
        loop, _, _ = loop_of(tmp_path, product, autocast=autocast)
        assert loop.precision.dtype == wanted
        assert dataclasses.replace(loop.settings).precision == "auto"
