"""Pictures and masks between ComfyUI's layout and the core's."""

from __future__ import annotations

import comfy.model_management as mm
import torch
import torch.nn.functional as F
from torch import Tensor

from ..varsr_core.errors import InputError
from ..varsr_core.images.check import check_pixels


def to_core(image: Tensor, alpha: Tensor | None = None) -> Tensor:
    """IMAGE (B, H, W, C) -> (B, C, H, W) float32; with a MASK of transparency, RGB and alpha."""
    image = image.movedim(-1, 1).float()
    if alpha is None or image.shape[1] not in (1, 3) or image.numel() == 0:
        return image
    transparency = mask_to_core(alpha)
    check_pixels(transparency, "alpha")
    if len(transparency) not in (1, len(image)):
        raise InputError(
            f"alpha has {len(transparency)} masks and image {len(image)} pictures; one mask for "
            "all, or one for each, is expected"
        )
    size = image.shape[2:]
    if transparency.shape[2:] != size:  # Load Image's, of 64 x 64, for a picture without one
        transparency = F.interpolate(transparency, size, mode="bilinear", align_corners=False)
    opacity = 1 - transparency.expand(image.shape[0], -1, -1, -1).to(image)
    return torch.cat((image.expand(-1, 3, -1, -1), opacity), dim=1)


def mask_to_core(mask: Tensor | None) -> Tensor | None:
    """MASK (B, H, W), (H, W) or (B, 1, H, W) -> (B, 1, H, W) float32."""
    if mask is None or mask.ndim == 4:
        return None if mask is None else mask.float()
    return mask.float()[None, None] if mask.ndim == 2 else mask.float()[:, None]


def to_comfy(image: Tensor) -> Tensor:
    """(B, C, H, W) -> IMAGE (B, H, W, C), where and as ComfyUI keeps pictures between nodes."""
    return _keep(image.movedim(1, -1).contiguous())


def to_comfy_with_alpha(image: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """IMAGE, with its alpha if `keep`, and MASK (B, H, W), 1 where it is transparent."""
    has_alpha = image.shape[1] == 4
    mask = 1 - image[:, 3] if has_alpha else image.new_zeros(image[:, 0].shape)
    return to_comfy(image if keep else image[:, :3]), _keep(mask)


def _keep(tensor: Tensor) -> Tensor:
    dtype = getattr(mm, "intermediate_dtype", lambda: torch.float32)()
    return tensor.to(mm.intermediate_device(), dtype)
