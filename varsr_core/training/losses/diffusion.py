"""The refiner's loss: predicted noise, and a variational bound for its learned variance.

Nichol & Dhariwal 2021, sections 3.1 and 3.2; the predicted noise is detached inside the bound, so
that it trains the variance alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...varsr.refiner import DIFFUSION_STEPS, RESIDUAL_SCALE, DDPMStep, Refiner, ddpm_steps
from ..steps.draws import draw_rows, rows_of

REPEATS = 4  # timesteps drawn for each target
HALF_BIN = 1 / 255  # half the width of a data bin, for the likelihood of the last step


class DiffusionTables:
    """Coefficients of all 1000 steps by name (see DDPMStep), each (1000,) float32."""

    def __init__(self, device: torch.device) -> None:
        steps = ddpm_steps(DIFFUSION_STEPS)[::-1]  # by rising timestep

        def table(name: str) -> Tensor:
            values = np.array([getattr(step, name) for step in steps])
            return torch.from_numpy(values).float().to(device)

        fields = [name for name in DDPMStep.__dataclass_fields__ if name != "timestep"]
        self.tables = {name: table(name) for name in fields}

    def at(self, name: str, timesteps: Tensor) -> Tensor:
        """(M,) timesteps -> (M, 1)."""
        return self.tables[name][timesteps][:, None]


class ResidualLoss:
    """The diffusion loss of what tokens lack of a latent; its tables are made when first needed."""

    def __init__(self) -> None:
        self.tables: DiffusionTables | None = None

    def __call__(
        self, refiner: Refiner, condition: Tensor, residual: Tensor, generator: torch.Generator
    ) -> Tensor:
        """condition: (N, L, D) normed; residual: (N, L, C) of a latent; returns a scalar."""
        if self.tables is None:
            self.tables = DiffusionTables(residual.device)
        return diffusion_loss(
            refiner,
            condition.flatten(0, 1),
            (residual / RESIDUAL_SCALE).flatten(0, 1),
            self.tables,
            generator,
            pictures=len(residual),
        )


def diffusion_loss(
    refiner: Refiner,
    condition: Tensor,
    target: Tensor,
    tables: DiffusionTables,
    generator: torch.Generator,
    pictures: int = 1,
) -> Tensor:
    """Mean squared error of the noise plus the variational bound in bits; a scalar.

    condition: (M, D) normed condition
    target:    (M, C) residual divided by its scale, about [-1, 1]
    generator: on the CPU; draws timesteps and noise
    pictures:  that the targets belong to, each with as many, one after the other
    """
    rows = rows_of(generator, pictures)
    each, channels = len(target) // pictures, target.shape[1]

    def draw_timesteps(count: int) -> Tensor:
        return torch.randint(DIFFUSION_STEPS, (REPEATS, count, each), generator=generator)

    def draw_noise(count: int) -> Tensor:
        return torch.randn(REPEATS, count, each, channels, generator=generator)

    timesteps = draw_rows(generator, rows, draw_timesteps, dim=1).flatten().to(target.device)
    noise = draw_rows(generator, rows, draw_noise, dim=1).flatten(0, 2).to(target.device)
    x0 = target.repeat(REPEATS, 1)
    # x0 = a x_t - b eps, solved for x_t.
    b = tables.at("x0_from_eps", timesteps)
    noisy = (x0 + b * noise) / tables.at("x0_from_x", timesteps)
    embedded = refiner.embed_condition(condition).repeat(REPEATS, 1)
    eps, variance = refiner(noisy, timesteps, embedded).chunk(2, dim=-1)
    bound = _variational_bound(x0, noisy, eps.detach(), variance, timesteps, tables)
    return F.mse_loss(eps, noise) + bound.mean()


def _variational_bound(
    x0: Tensor,
    noisy: Tensor,
    eps: Tensor,
    variance: Tensor,
    timesteps: Tensor,
    tables: DiffusionTables,
) -> Tensor:
    """Bits a dimension of every target: (M,)."""
    at = {name: tables.at(name, timesteps) for name in tables.tables}
    predicted = at["x0_from_x"] * noisy - at["x0_from_eps"] * eps
    true_mean = at["mean_from_x0"] * x0 + at["mean_from_x"] * noisy
    mean = at["mean_from_x0"] * predicted + at["mean_from_x"] * noisy
    fraction = (variance + 1) / 2
    log_variance = fraction * at["log_beta"] + (1 - fraction) * at["log_posterior"]
    divergence = normal_kl(true_mean, at["log_posterior"], mean, log_variance)
    likelihood = -binned_log_likelihood(x0, mean, log_variance / 2)
    bits = torch.where(timesteps[:, None] == 0, likelihood, divergence) / math.log(2)
    return bits.mean(dim=1)


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL divergence of the second normal distribution from the first, elementwise, in nats."""
    ratio = log_variance1 - log_variance2
    return (ratio.exp() - 1 - ratio + (mean1 - mean2) ** 2 * torch.exp(-log_variance2)) / 2


def binned_log_likelihood(x: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Log probability of the bin around x, of a normal distribution cut into 8-bit bins."""
    scale = torch.exp(-log_deviation)
    upper = torch.special.ndtr((x - mean + HALF_BIN) * scale)
    lower = torch.special.ndtr((x - mean - HALF_BIN) * scale)
    # The outermost bins are open.
    upper = torch.where(x > 1 - 2 * HALF_BIN, torch.ones_like(upper), upper)
    lower = torch.where(x < -1 + 2 * HALF_BIN, torch.zeros_like(lower), lower)
    return (upper - lower).clamp(min=1e-12).log()
