"""How near a result is to its reference, and to its input: PSNR and SSIM of luma."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tools.metrics.case import Case, Unmeasurable, luma

PEAK = 255
WINDOW, SIGMA = 11, 1.5  # of SSIM, Wang et al. 2004
STABLE = ((0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2)


def psnr(ours: Tensor, theirs: Tensor) -> float:
    """dB, of values up to 255; 124 at most."""
    return float(10 * torch.log10(PEAK**2 / (ours - theirs).square().mean().clamp(min=1e-10)))


def ssim(ours: Tensor, theirs: Tensor) -> float:
    """Of (1, 1, H, W) in float64, values up to 255; where the window lies inside the picture."""
    if min(ours.shape[-2:]) < WINDOW:
        raise Unmeasurable(
            f"SSIM looks at {WINDOW} pixels at once, and fewer are inside the border"
        )
    offset = torch.arange(WINDOW, dtype=ours.dtype) - WINDOW // 2
    line = torch.exp(-(offset**2) / (2 * SIGMA**2))
    line = line / line.sum()

    def local_mean(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))

    mean, other = local_mean(ours), local_mean(theirs)
    variance = local_mean(ours**2) - mean**2 + local_mean(theirs**2) - other**2
    covariance = local_mean(ours * theirs) - mean * other
    first, second = STABLE
    likeness = (2 * mean * other + first) * (2 * covariance + second)
    return float((likeness / ((mean**2 + other**2 + first) * (variance + second))).mean())


def psnr_y(case: Case) -> float:
    return psnr(*_inner(case))


def ssim_y(case: Case) -> float:
    return ssim(*_inner(case))


def lr_psnr(case: Case) -> float:
    """Of the result brought back to the size of its input, against the input: faithfulness."""
    assert case.low is not None
    back = case.result.convert("RGB").resize(case.low.size, Image.Resampling.BICUBIC)
    return psnr(luma(back), luma(case.low))


def _inner(case: Case) -> tuple[Tensor, Tensor]:
    """Lumas of the result and of its reference, without the border."""
    assert case.reference is not None
    width, height = case.result.size
    if min(width, height) <= 2 * case.border:
        raise Unmeasurable(f"a border of {case.border} leaves nothing of {width}x{height}")
    rows, columns = (slice(case.border, side - case.border) for side in (height, width))
    return luma(case.result)[..., rows, columns], luma(case.reference)[..., rows, columns]
