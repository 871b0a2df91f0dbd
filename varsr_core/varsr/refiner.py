"""The diffusion refiner: a per-token MLP that restores what quantization loses (paper, 3.4).

Its sampler is improved DDPM, respaced (Nichol & Dhariwal, 2021). Coefficients are made in float64
on the CPU and handed out as Python floats, since MPS has no float64 tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.layer_list import LayerList
from ..nn.token_sampling import guide
from .config import RefinerConfig

NORM_EPS = 1e-6
RESIDUAL_SCALE = 0.6  # the refiner works on residuals divided by this; not in the file
MAX_PERIOD = 10000
DIFFUSION_STEPS = 1000
COSINE_OFFSET = 0.008
MAX_BETA = 0.999


def time_embedding(timesteps: Tensor, frequencies: int) -> Tensor:
    """Sinusoids of timesteps, cosines first: (T,) -> (T, frequencies) float32."""
    half = frequencies // 2
    index = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps[:, None] * torch.exp(-math.log(MAX_PERIOD) * index / half)
    return torch.cat((angles.cos(), angles.sin()), dim=1)


class RefinerBlock(nn.Module):
    def __init__(self, width: int, operations: ModuleType = nn) -> None:
        super().__init__()
        self.norm = operations.LayerNorm(width, eps=NORM_EPS)
        self.fc1 = operations.Linear(width, width)
        self.fc2 = operations.Linear(width, width)
        self.modulation = operations.Linear(width, 3 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (M, width) float32; condition: (M, width), after its SiLU, in the dtype of the run."""
        shift, scale, gate = self.modulation(condition).float().chunk(3, dim=-1)
        h = torch.addcmul(shift, self.norm(x), 1 + scale).to(condition.dtype)
        return x + gate * self.fc2(F.silu(self.fc1(h)))


class Refiner(nn.Module):
    """Condition (M, D), noisy residual (M, C) -> predicted noise and variance (M, 2C)."""

    def __init__(
        self,
        config: RefinerConfig,
        condition_width: int,
        channels: int,
        *,
        dtype: torch.dtype = torch.float32,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        width = config.width
        self.frequencies = config.frequencies
        self.channels = channels
        self.dtype = dtype
        self.condition_norm = operations.LayerNorm(condition_width, eps=NORM_EPS)
        self.condition_embed = operations.Linear(condition_width, width)
        self.time_embed = nn.Sequential(
            operations.Linear(config.frequencies, width),
            nn.SiLU(),
            operations.Linear(width, width),
        )
        self.input_projection = operations.Linear(channels, width)
        self.blocks = LayerList(RefinerBlock(width, operations) for _ in range(config.depth))
        self.final_modulation = operations.Linear(width, 2 * width)
        self.final = operations.Linear(width, 2 * channels)

    def embed_condition(self, condition: Tensor) -> Tensor:
        """(M, D) normed condition -> (M, width) float32; the same for every step of a run."""
        return self.condition_embed(condition.to(self.dtype)).float()

    def forward(self, noisy: Tensor, timesteps: Tensor, embedded: Tensor) -> Tensor:
        """Predicted noise and variance, (M, 2C) float32.

        noisy:     (M, C) float32
        timesteps: (M,) of the 1000, or (1,) for all
        embedded:  (M, width) from embed_condition
        """
        time = time_embedding(timesteps, self.frequencies).to(self.dtype)
        condition = F.silu(self.time_embed(time).float() + embedded).to(self.dtype)
        x = self.input_projection(noisy.to(self.dtype)).float()
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.final_modulation(condition).float().chunk(2, dim=-1)
        h = F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
        return self.final(torch.addcmul(shift, h, 1 + scale).to(self.dtype)).float()


def sample_residual(
    refiner: Refiner, condition: Tensor, noise: Tensor, *, guidance: float, steps: int
) -> Tensor:
    """What quantization lost, sampled by the respaced DDPM.

    condition: (1 or 2, M, D) normed condition of the positive and, when guided, the negative rows
    noise:     (steps + 1, M, C) standard normal: draw 0 starts, draw i + 1 belongs to step i
    returns    (M, C) float32, to be added to the latent; NaN where the network overflowed
    """
    rows = 2 if guidance else 1
    embedded = refiner.embed_condition(condition[:rows].flatten(0, 1))
    x, predicted = noise[0], torch.zeros((), device=noise.device)
    for i, step in enumerate(ddpm_steps(steps)):
        timestep = torch.full((1,), step.timestep, device=x.device)  # a copy would wait for a GPU
        prediction = refiner(x.repeat(rows, 1), timestep, embedded)
        predicted = predicted + prediction  # where any step's is not finite, neither is the sum
        eps, variance = prediction.chunk(2, dim=-1)
        if guidance:
            # Both rows share the noisy residual; the variance is the positive row's.
            positive, negative = eps.chunk(2)
            eps, variance = guide(positive, negative, guidance), variance.chunk(2)[0]
        x = _ddpm_update(x, eps, variance, step, None if i == steps - 1 else noise[i + 1])
    # Clamping hides infinity: of a prediction that is not finite it makes a number like any other.
    finite = predicted.unflatten(0, (rows, -1)).sum(dim=(0, 2)).isfinite()
    return torch.where(finite[:, None], x * RESIDUAL_SCALE, torch.nan)


def _ddpm_update(
    x: Tensor, eps: Tensor, variance: Tensor, step: DDPMStep, noise: Tensor | None
) -> Tensor:
    """One reverse step in float32; the last one gets no noise."""
    x0 = (step.x0_from_x * x - step.x0_from_eps * eps).clamp(-1, 1)
    mean = step.mean_from_x0 * x0 + step.mean_from_x * x
    if noise is None:
        return mean
    fraction = (variance + 1) / 2
    log_variance = fraction * step.log_beta + (1 - fraction) * step.log_posterior
    return mean + torch.exp(log_variance / 2) * noise


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


@lru_cache
def ddpm_steps(steps: int) -> tuple[DDPMStep, ...]:
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
    return tuple(run[::-1])
