"""Multi-scale residual quantizer: a latent as token maps of growing side, one codebook for all.

Everything runs in float32: the latent is a sum over all scales, and rounding would add up.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from ..nn.layer_list import LayerList
from ..nn.resample import resample
from ..nn.schedule import ScaleSchedule

PHI_RATIO = 0.5  # weight of the convolved map in phi (paper's tokenizer; not in the file)


def phi_index(scale: int, num_scales: int, phi_count: int) -> int:
    """Which smoothing convolution scale `scale` uses: the one whose tick is nearest.

    float64 on purpose: two of ten choices are ties that rounding decides, and the released
    weights were trained with these.
    """
    first = 1 / 3 / phi_count if phi_count == 4 else 1 / 2 / phi_count
    ticks = np.linspace(first, 1 - first, phi_count)
    return int(np.argmin(np.abs(ticks - scale / max(num_scales - 1, 1))))


class Quantizer(nn.Module):
    def __init__(
        self,
        codebook_size: int,
        channels: int,
        phi_count: int,
        schedule: ScaleSchedule,
        operations: ModuleType = nn,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.codebook = operations.Embedding(codebook_size, channels)
        self.phi = LayerList(
            operations.Conv2d(channels, channels, 3, padding=1) for _ in range(phi_count)
        )
        self.channels = channels

    def residual(self, token_ids: Tensor, scale: int) -> Tensor:
        """What the tokens of one scale add to the latent.

        token_ids: (N, side * side)
        returns    (N, C, S, S) float32, S the final side
        """
        return self.residual_of(self.codebook(token_ids).float(), scale)

    def mean(self, weights: Tensor) -> Tensor:
        """Of the codebook's entries: (N, L, V) with 1 in sum -> (N, L, C) float32."""
        return weights @ self._entries(weights.device)

    def _entries(self, device: torch.device) -> Tensor:
        """All of them, (V, C) float32."""
        return self.codebook(torch.arange(self.codebook.num_embeddings, device=device)).float()

    def residual_of(self, tokens: Tensor, scale: int) -> Tensor:
        """As residual(), of entries or means of them: (N, side * side, C) float32."""
        side, final = self.schedule.sides[scale], self.schedule.final_side
        residual = rearrange(tokens, "n (h w) c -> n c h w", h=side).contiguous()
        if side == final:
            # The last scale skips phi: the released transformer and refiner were trained that way.
            return residual
        residual = resample(residual, final, "bicubic")
        phi = self.phi[phi_index(scale, self.schedule.num_scales, len(self.phi))]
        return torch.lerp(residual, phi(residual), PHI_RATIO)

    def downsample(self, latent: Tensor, scale: int) -> Tensor:
        """The latent at a scale's side, as the input of that scale: (N, side * side, C)."""
        side = self.schedule.sides[scale]
        if side != latent.shape[-1]:
            latent = resample(latent, side, "area")
        return latent.flatten(2).transpose(1, 2)

    def nearest(self, tokens: Tensor) -> Tensor:
        """Codebook entry with the smallest squared distance: (..., C) -> (...) int64."""
        codebook = self._entries(tokens.device)
        # |t - e|^2 without the |t|^2 that is the same for all entries.
        return (codebook.square().sum(dim=1) - 2 * tokens @ codebook.T).argmin(dim=-1)

    def encode(
        self, latent: Tensor, forced_ids: list[Tensor] | None = None
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Token maps of a latent, coarse to fine.

        latent:     (N, C, S, S) float32, the encoder's output
        forced_ids: ids that each scale subtracts in place of its own, for comparisons
        returns     ids per scale (N, side * side); latent after each scale (N, C, S, S);
                    what is left before the last scale's residual, the refiner's training target
        """
        ids: list[Tensor] = []
        latents: list[Tensor] = []
        total, rest = torch.zeros_like(latent), latent
        rest_before_last = rest
        for scale in range(self.schedule.num_scales):
            rest_before_last = rest
            ids.append(self.nearest(self.downsample(rest, scale)))
            used = ids[-1] if forced_ids is None else forced_ids[scale]
            residual = self.residual(used, scale)
            total, rest = total + residual, rest - residual
            latents.append(total)
        return ids, latents, rest_before_last
