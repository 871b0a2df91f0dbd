"""The sampler's coefficients against a second derivation that goes through the respaced betas."""

import math

import numpy as np
import pytest

from helpers.each import each
from varsr_core.varsr.refiner import cosine_alphas_cumprod, ddpm_steps, respaced_timesteps


def training_betas():
    def signal(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1 - signal((i + 1) / 1000) / signal(i / 1000), 0.999) for i in range(1000)]


def plain_coefficients(timesteps):
    """Rows in rising order of the timestep, as a diffusion over the respaced betas has them."""
    kept, betas, left, last = set(timesteps), [], 1.0, 1.0
    for t, beta in enumerate(training_betas()):
        left *= 1 - beta
        if t in kept:
            betas.append(1 - left / last)
            last = left
    rows, left = [], 1.0
    variances = []
    for beta in betas:
        before, left = left, left * (1 - beta)
        variances.append(beta * (1 - before) / (1 - left))
        rows.append(
            {
                "x0_from_x": math.sqrt(1 / left),
                "x0_from_eps": math.sqrt(1 / left - 1),
                "mean_from_x0": beta * math.sqrt(before) / (1 - left),
                "mean_from_x": (1 - before) * math.sqrt(1 - beta) / (1 - left),
                "log_beta": math.log(beta),
            }
        )
    clipped = [variances[1], *variances[1:]]
    for row, variance in zip(rows, clipped, strict=True):
        row["log_posterior"] = math.log(variance)
    return rows


def test_published_run_visits_every_111th_timestep():
    assert respaced_timesteps(10) == [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]


@each("steps", [2, 3, 10, 64, 999, 1000])
def test_timesteps_rise_from_0_to_999(steps):
    timesteps = respaced_timesteps(steps)
    assert len(timesteps) == len(set(timesteps)) == steps
    assert timesteps == sorted(timesteps)
    assert (timesteps[0], timesteps[-1]) == (0, 999)


@each("steps", [-1, 0, 1, 1001])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"2 to 1000 steps; got {steps}"):
        respaced_timesteps(steps)


def test_share_of_signal_equals_the_product_of_the_training_betas():
    expected = np.cumprod(1 - np.array(training_betas()))
    np.testing.assert_allclose(cosine_alphas_cumprod(), expected, rtol=1e-12)


@each("steps", [2, 10, 25, 250])
def test_coefficients_equal_those_of_the_respaced_betas(steps):
    run = ddpm_steps(steps)
    timesteps = [step.timestep for step in reversed(run)]
    for step, row in zip(reversed(run), plain_coefficients(timesteps), strict=True):
        for name, value in row.items():
            assert getattr(step, name) == pytest.approx(value, rel=1e-8, abs=1e-12), name


def test_run_begins_with_the_noisiest_step():
    assert [step.timestep for step in ddpm_steps(10)][:2] == [999, 888]


def test_last_step_lands_on_the_predicted_picture():
    last = ddpm_steps(10)[-1]
    assert last.mean_from_x0 == pytest.approx(1)
    assert last.mean_from_x == pytest.approx(0)
