"""The diffusion refiner: a per-token MLP that restores what quantization loses (paper, 3.4)."""

from __future__ import annotations

import math
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.layer_list import LayerList
from ..nn.token_sampling import guide
from .config import RefinerConfig
from .ddpm import DDPMStep, ddpm_steps

NORM_EPS = 1e-6
RESIDUAL_SCALE = 0.6  # the refiner works on residuals divided by this; not in the file
MAX_PERIOD = 10000


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
    returns    (M, C) float32, to be added to the latent
    """
    rows = 2 if guidance else 1
    embedded = refiner.embed_condition(condition[:rows].flatten(0, 1))
    x = noise[0]
    for i, step in enumerate(ddpm_steps(steps)):
        timestep = torch.tensor([step.timestep], device=x.device)
        prediction = refiner(x.repeat(rows, 1), timestep, embedded)
        eps, variance = prediction.chunk(2, dim=-1)
        if guidance:
            # Both rows share the noisy residual; the variance is the positive row's.
            eps, variance = guide(*eps.chunk(2), guidance), variance.chunk(2)[0]
        x = _ddpm_update(x, eps, variance, step, None if i == steps - 1 else noise[i + 1])
    return x * RESIDUAL_SCALE


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
