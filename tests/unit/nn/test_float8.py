"""Weights in 8 bits: how close they come, on every way of using them."""

import pytest
import torch
from torch import nn

from helpers import models
from helpers.each import each
from varsr_core.nn import float8
from varsr_core.nn.float8 import FLOAT8, Float8Linear, quantise, store_in_float8, widened
from varsr_core.runtime.cuda_graphs import Recorder
from varsr_core.varsr.acceleration import accelerated, in_float8, rebuilt


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(inputs=64, outputs=48, bias=True):
    layer = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)
    layer.weight.copy_(random(outputs, inputs) * torch.logspace(-4, 1, outputs)[:, None])
    if bias:
        layer.bias.copy_(random(outputs, seed=1))
    return layer


def relative(found, expected):
    """Of every output, the error beside its usual size."""
    error = (found.float() - expected.float()).square().mean(dim=0).sqrt()
    return (error / expected.float().square().mean(dim=0).sqrt()).max().item()


def test_weights_come_back_within_three_bits():
    weight = linear().weight
    stored, scale = quantise(weight)
    assert stored.dtype == FLOAT8
    back = stored.float() * scale[:, None]
    largest = weight.abs().amax(dim=1, keepdim=True)
    assert ((back - weight).abs() <= weight.abs() * 2**-4 + largest * 2**-17).all()


def test_the_largest_weight_of_an_output_uses_the_upper_half_of_the_range():
    stored, _ = quantise(linear().weight)
    largest = stored.float().abs().amax(dim=1)
    assert (largest > float8.LARGEST / 2 - 32).all()
    assert torch.isfinite(stored.float()).all()


def test_scaled_weights_are_exact_in_bf16():
    stored, scale = quantise(linear().weight)
    halved = stored.to(torch.bfloat16) * scale.to(torch.bfloat16)[:, None]
    assert torch.equal(halved.float(), stored.float() * scale[:, None])


def test_an_output_without_weights_stays_zero():
    stored, scale = quantise(torch.zeros(3, 16))
    assert torch.equal(stored.float() * scale[:, None], torch.zeros(3, 16))


@each("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layer_multiplies_by_the_weights_it_stores(dtype, bias):
    layer = Float8Linear(linear(bias=bias).to(dtype))
    x = random(5, 7, 64).to(dtype)
    weight = layer.weight.float() * layer.scale[:, None]
    expected = x.float() @ weight.T + (layer.bias.float() if bias else 0)
    found = layer(x)
    assert found.dtype == dtype
    assert found.shape == (5, 7, 48)
    torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=3e-2)
    assert relative(found.flatten(0, 1), nn.functional.linear(x, linear(bias=bias).weight.to(dtype),
        layer.bias).flatten(0, 1)) < 0.06  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_of_8_bits_come_close_to_those_of_16(bias, dtype, monkeypatch):
    """The CPU has the same operation as the GPUs it is for."""
    layer, x = Float8Linear(linear(bias=bias).to(dtype)), random(5, 7, 64).to(dtype)
    plain = layer(x)
    monkeypatch.setattr(float8, "multiplies_float8", lambda device: True)
    found = layer(x)
    assert found.dtype == dtype
    assert not torch.equal(found, plain)
    assert relative(found.flatten(0, 1), plain.flatten(0, 1)) < 0.06


@pytest.mark.parametrize(("inputs", "outputs"), [(24, 48), (64, 40)])
def test_sides_that_no_8_bit_unit_takes_go_the_plain_way(inputs, outputs, monkeypatch):
    layer, x = Float8Linear(linear(inputs, outputs).bfloat16()), random(5, inputs).bfloat16()
    plain = layer(x)
    monkeypatch.setattr(float8, "multiplies_float8", lambda device: True)
    assert torch.equal(layer(x), plain)


def test_a_cpu_is_not_said_to_multiply_8_bits():
    assert not float8.multiplies_float8(torch.device("cpu"))


def test_all_linear_layers_below_a_module_are_replaced():
    module = nn.Sequential(linear(), nn.Sequential(nn.ReLU(), linear(48, 16)), nn.LayerNorm(16))
    expected = module(random(3, 64))
    store_in_float8(module)
    assert not [m for m in module.modules() if isinstance(m, nn.Linear)]
    assert relative(module(random(3, 64)), expected) < 0.25


def test_model_in_float8_holds_its_blocks_in_8_bits_and_leaves_the_other_alone():
    plain = models.micro_model()
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    model = in_float8(plain.state_dict(), plain)
    stored = [name for name, p in model.named_parameters() if p.dtype == FLOAT8]
    assert len(stored) == 2 * 4 + len(plain.refiner.blocks) * 3
    assert all(".blocks." in name for name in stored)
    assert model.fingerprint == plain.fingerprint
    after = plain.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("eight_bits", [False, True])
def test_a_rebuilt_model_has_the_same_weights_in_layers_of_its_own(eight_bits):
    plain = models.micro_model()
    model = in_float8(plain.state_dict(), plain) if eight_bits else plain
    other = rebuilt(model.state_dict(), model)
    expected, found = model.state_dict(), other.state_dict()
    assert {name: t.dtype for name, t in expected.items()} == {n: t.dtype for n, t in found.items()}
    wide = widened(found)  # a row's scale may be another power of two
    for name, tensor in widened(expected).items():
        assert torch.equal(wide[name].detach(), tensor.detach()), name
    own, others = set(model.modules()), set(other.modules())
    assert not own & others, "what a host does to one is not done to the other"
    assert other.fingerprint == model.fingerprint
    assert other.defaults == model.defaults


def test_a_rebuilt_model_takes_no_memory_for_weights():
    plain = models.micro_model()
    other = rebuilt(plain.state_dict(), plain).state_dict()
    assert all(other[name].data_ptr() == p.data_ptr() for name, p in plain.state_dict().items())


def test_a_rebuilt_model_runs_its_blocks_as_the_other_does():
    plain = accelerated(models.micro_model(), recorder=Recorder())
    other = rebuilt(plain.state_dict(), plain)
    assert other.transformer.run_blocks is plain.transformer.run_blocks
