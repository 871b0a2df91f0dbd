"""A batch in several passes computes the step of one pass, and draws what one pass draws."""

import dataclasses

import pytest
import torch

from helpers import models
from helpers.training import SIZES, settings
from varsr_core.errors import InputError
from varsr_core.training.data.pairs import PairBatch
from varsr_core.training.loop import Loop
from varsr_core.training.stages.decoder import DecoderLoss, DecoderSettings
from varsr_core.training.stages.dynamic_sampling import DynamicSampling
from varsr_core.training.stages.restorer import ISRLoss, ISRSettings
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.training.steps.blocks import BlockSettings
from varsr_core.training.steps.draws import Rows, StepGenerator, draw_rows, rows_of
from varsr_core.training.steps.passes import passes, samples

COUNT = 6
STEP = settings(2, batch=COUNT, precision="fp32")


def model():
    made = new_model(config_from_json(SIZES), 0)
    # Of a new model the gradient of most weights is 0.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return made


def batch():
    target = torch.cat([models.picture(8, 8, seed=seed) for seed in range(COUNT)])
    lq = torch.nn.functional.avg_pool2d(target, 3, stride=1, padding=1)
    return PairBatch(lq, target, torch.arange(COUNT) % 2)


def isr(made):
    mistaken = ISRSettings(sampling=DynamicSampling(0.5, 4))
    return ISRLoss(made, settings=mistaken, blocks=BlockSettings(drop_path=0.5))


def decoder(made):
    return DecoderLoss(made, DecoderSettings(own_share=0.5))


def gradients(make, accumulate):
    """Losses and gradients of a step."""
    module = make(model())
    module.model.requires_grad_(False)
    parameters = [p.requires_grad_(True) for part in module.trained() for p in part.parameters()]
    generator = StepGenerator()
    generator.manual_seed(5)
    chosen, total = dataclasses.replace(STEP, accumulate=accumulate), 0.0
    for one in passes(module, module, batch(), chosen, generator):
        (one.weight * one.losses["loss"]).backward()
        total += one.share * one.losses["loss"].item()
    return total, torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


@pytest.mark.parametrize("make", [isr, decoder])
@pytest.mark.parametrize("accumulate", [2, 4, COUNT])
def test_gradient_of_several_passes_is_that_of_one(make, accumulate):
    loss, whole = gradients(make, 1)
    found, parts = gradients(make, accumulate)
    assert found == pytest.approx(loss, rel=1e-5)
    assert whole.abs().max() > 1e-3
    assert (parts - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("make", [isr, decoder])
def test_other_samples_have_other_noise(make):
    """What makes the test above one of the draws: with the first pass's noise it fails."""
    _, whole = gradients(make, 1)
    module = make(model())
    module.model.requires_grad_(False)
    parameters = [p.requires_grad_(True) for part in module.trained() for p in part.parameters()]
    for part in (range(3), range(3, 6)):
        generator = torch.Generator().manual_seed(5)
        losses = module(*module.inputs(samples(batch(), part)), generator)
        (losses["loss"] / 2).backward()
    other = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    assert (other - whole).abs().max() > 1e-3 * whole.abs().max()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_weights_after_some_steps_and_their_log_are_those_of_one_pass(tmp_path, accumulate):
    weights, logs = [], []
    for name, count in (("one", 1), (f"many{accumulate}", accumulate)):
        (tmp_path / name).mkdir(exist_ok=True)
        module = isr(model())
        module.model.requires_grad_(False)
        chosen = dataclasses.replace(STEP, accumulate=count)
        loop = Loop(module.trained(), chosen, tmp_path / name, lambda: None)
        loop.run(lambda _, g, m=module, c=chosen: passes(m, m, batch(), c, g))
        weights.append(torch.cat([p.detach().flatten() for p in loop.parameters]))
        logs.append([list(map(float, row.split(","))) for row in _rows(tmp_path / name)])
    assert (weights[0] - weights[1]).abs().max() < 1e-5
    assert torch.tensor(logs[0]).allclose(torch.tensor(logs[1]), rtol=1e-4)


def _rows(folder):
    return (folder / "log.csv").read_text().splitlines()[1:]


def test_more_passes_than_samples_are_refused():
    with pytest.raises(InputError, match="7 passes"):
        dataclasses.replace(STEP, accumulate=7)
    module, chosen = isr(model()), dataclasses.replace(STEP, batch=8, accumulate=7)
    with pytest.raises(InputError, match="6 samples of a process"):
        next(passes(module, module, batch(), chosen, StepGenerator()))


def test_passes_draw_what_one_pass_draws():
    whole = torch.Generator().manual_seed(3)
    first, second = (torch.rand(2, 6, generator=whole) for _ in range(2))
    generator = StepGenerator()
    generator.manual_seed(3)
    for start, count in ((0, 1), (1, 3), (4, 2)):
        generator.begin_pass(Rows(start, count, 6))
        for wanted in (first, second):
            rows = rows_of(generator, count)
            drawn = draw_rows(
                generator, rows, lambda n: torch.rand(2, n, generator=generator), dim=1
            )
            assert torch.equal(drawn, wanted[:, start : start + count])


def test_part_of_a_batch_has_rows_of_its_own():
    rows = Rows(2, 3, 8)  # samples 2 to 4
    assert rows.of(0, 4) == Rows(2, 2, 4)
    assert rows.of(4, 4) == Rows(0, 1, 4)
    assert rows.of(6, 2) == Rows(0, 0, 2)
