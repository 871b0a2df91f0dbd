"""Arithmetic of the refiner's sampler: improved DDPM, respaced (Nichol & Dhariwal, 2021).

Coefficients are made in float64 on the CPU and handed out as Python floats, since MPS has no
float64 tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

DIFFUSION_STEPS = 1000
COSINE_OFFSET = 0.008
MAX_BETA = 0.999


def cosine_alphas_cumprod() -> np.ndarray:
    """Share of signal left after each of the 1000 training steps: (1000,) float64."""
    edges = np.arange(DIFFUSION_STEPS + 1) / DIFFUSION_STEPS
    curve = np.cos((edges + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    betas = np.minimum(1 - curve[1:] / curve[:-1], MAX_BETA)
    return np.cumprod(1 - betas)


def respaced_timesteps(steps: int) -> list[int]:
    """`steps` training timesteps from 0 to 999, evenly spaced, in rising order."""
    if not 2 <= steps <= DIFFUSION_STEPS:
        raise ValueError(f"the refiner takes 2 to {DIFFUSION_STEPS} steps; got {steps}")
    return [round(i * (DIFFUSION_STEPS - 1) / (steps - 1)) for i in range(steps)]


@dataclass(frozen=True)
class DDPMStep:
    """Coefficients of one step, from x_t to the step before it.

    x0   = x0_from_x * x_t - x0_from_eps * eps
    mean = mean_from_x0 * x0 + mean_from_x * x_t
    log variance = f * log_beta + (1 - f) * log_posterior, f = (v + 1) / 2
    """

    timestep: int
    x0_from_x: float
    x0_from_eps: float
    mean_from_x0: float
    mean_from_x: float
    log_beta: float
    log_posterior: float


def ddpm_steps(steps: int) -> list[DDPMStep]:
    """The coefficients of a whole run, in the order they are used (noisy first)."""
    timesteps = respaced_timesteps(steps)
    abar = cosine_alphas_cumprod()[timesteps]
    previous = np.concatenate(([1.0], abar[:-1]))
    beta = 1 - abar / previous
    posterior = beta * (1 - previous) / (1 - abar)
    # The first posterior variance is 0 and has no logarithm; the reference takes the second.
    posterior[0] = posterior[1]
    run = [
        DDPMStep(
            timestep=timesteps[i],
            x0_from_x=float(abar[i] ** -0.5),
            x0_from_eps=float((1 / abar[i] - 1) ** 0.5),
            mean_from_x0=float(beta[i] * previous[i] ** 0.5 / (1 - abar[i])),
            mean_from_x=float((1 - previous[i]) * (1 - beta[i]) ** 0.5 / (1 - abar[i])),
            log_beta=float(np.log(beta[i])),
            log_posterior=float(np.log(posterior[i])),
        )
        for i in range(steps)
    ]
    return run[::-1]
