"""The refiner's loss against formulas written a second time, with scipy's normal distribution."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from varsr_core.training.losses.diffusion import (
    REPEATS,
    DiffusionTables,
    binned_log_likelihood,
    diffusion_loss,
    normal_kl,
)
from varsr_core.varsr.config import RefinerConfig
from varsr_core.varsr.refiner import Refiner

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def refiner():
    torch.manual_seed(0)
    return Refiner(RefinerConfig(32, 2, 16), condition_width=24, channels=8)


def test_divergence_is_that_of_sampling():
    mean1, log1, mean2, log2 = 0.3, -1.2, -0.4, 0.5
    draws = norm.rvs(mean1, math.exp(log1 / 2), size=400_000, random_state=1)
    sampled = (
        norm.logpdf(draws, mean1, math.exp(log1 / 2))
        - norm.logpdf(draws, mean2, math.exp(log2 / 2))
    ).mean()
    found = normal_kl(*(torch.tensor(v) for v in (mean1, log1, mean2, log2)))
    assert found.item() == pytest.approx(sampled, abs=0.01)


def test_likelihood_is_the_probability_of_the_bin():
    x = torch.linspace(-0.9, 0.9, 7)
    found = binned_log_likelihood(x, torch.full((7,), 0.1), torch.full((7,), -0.5))
    edges = [norm.cdf(x.numpy() + side / 255, 0.1, math.exp(-0.5)) for side in (1, -1)]
    assert np.allclose(found.numpy(), np.log(edges[0] - edges[1]), atol=1e-3)


def test_outermost_bins_are_open():
    found = binned_log_likelihood(
        torch.tensor([1.0, -1.0]), torch.tensor([5.0, -5.0]), torch.zeros(2)
    )
    assert (found > math.log(0.99)).all()


def test_loss_equals_a_loop_over_its_draws(refiner):
    condition, target = torch.randn(6, 24), torch.rand(6, 8) * 2 - 1
    found = diffusion_loss(refiner, condition, target, DiffusionTables(CPU), generator(3))

    draws = generator(3)
    timesteps = torch.randint(1000, (6 * REPEATS,), generator=draws)
    noise = torch.randn(6 * REPEATS, 8, generator=draws)
    edges = np.arange(1001) / 1000
    curve = np.cos((edges + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = np.minimum(1 - curve[1:] / curve[:-1], 0.999)
    abar = np.cumprod(1 - beta)
    before = np.append(1.0, abar[:-1])
    posterior = beta * (1 - before) / (1 - abar)
    posterior[0] = posterior[1]
    total = 0.0
    for i, t in enumerate(timesteps.tolist()):
        x0 = target[i % 6].double().numpy()
        eps = noise[i].double().numpy()
        noisy = np.sqrt(abar[t]) * x0 + np.sqrt(1 - abar[t]) * eps
        with torch.no_grad():
            prediction = (
                refiner(
                    torch.from_numpy(noisy).float()[None],
                    torch.tensor([t]),
                    refiner.embed_condition(condition[i % 6][None]),
                )[0]
                .double()
                .numpy()
            )
        eps_found, v = prediction[:8], prediction[8:]
        guess = (noisy - np.sqrt(1 - abar[t]) * eps_found) / np.sqrt(abar[t])
        c1 = beta[t] * np.sqrt(before[t]) / (1 - abar[t])
        c2 = (1 - before[t]) * np.sqrt(1 - beta[t]) / (1 - abar[t])
        mean, true = c1 * guess + c2 * noisy, c1 * x0 + c2 * noisy
        log_variance = (v + 1) / 2 * np.log(beta[t]) + (1 - v) / 2 * np.log(posterior[t])
        if t == 0:
            deviation = np.exp(log_variance / 2)
            bits = -np.log(
                norm.cdf(x0 + 1 / 255, mean, deviation) - norm.cdf(x0 - 1 / 255, mean, deviation)
            )
        else:
            gap = np.log(posterior[t]) - log_variance
            bits = (np.exp(gap) - 1 - gap + (true - mean) ** 2 / np.exp(log_variance)) / 2
        total += np.mean((eps_found - eps) ** 2) + np.mean(bits) / math.log(2)
    assert found.item() == pytest.approx(total / len(timesteps), rel=1e-3)


def test_bound_trains_the_variance_alone(refiner):
    condition, target = torch.randn(6, 24), torch.rand(6, 8)
    loss = diffusion_loss(refiner, condition, target, DiffusionTables(CPU), generator())
    loss.backward()
    with_bound = refiner.final.weight.grad[:8].clone()
    refiner.zero_grad()
    draws = generator()
    timesteps = torch.randint(1000, (6 * REPEATS,), generator=draws)
    noise = torch.randn(6 * REPEATS, 8, generator=draws)
    tables = DiffusionTables(CPU)
    noisy = (target.repeat(REPEATS, 1) + tables.at("x0_from_eps", timesteps) * noise) / tables.at(
        "x0_from_x", timesteps
    )
    embedded = refiner.embed_condition(condition).repeat(REPEATS, 1)
    eps = refiner(noisy, timesteps, embedded)[:, :8]
    (eps - noise).square().mean().backward()
    assert torch.allclose(refiner.final.weight.grad[:8], with_bound, atol=1e-6)


def test_condition_gets_a_gradient(refiner):
    condition = torch.randn(6, 24, requires_grad=True)
    torch.nn.init.normal_(refiner.final.weight)
    diffusion_loss(
        refiner, condition, torch.rand(6, 8), DiffusionTables(CPU), generator()
    ).backward()
    assert condition.grad.abs().sum() > 0
