"""Kernels written out in float64."""

import torch


def cubic_weights(before, after):
    """(after, before): PIL's kernel, a = -0.5, widened where pixels get fewer."""
    wide = max(1, before / after)
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) * before / after
    away = (torch.arange(before) + 0.5 - centres[:, None]).abs() / wide
    near = 1.5 * away**3 - 2.5 * away**2 + 1
    far = -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    kernel = torch.where(away < 1, near, torch.where(away < 2, far, 0))
    return kernel / kernel.sum(1, keepdim=True)
