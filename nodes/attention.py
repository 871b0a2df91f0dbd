"""Attention through ComfyUI's own kernel, where torch's is not what the user's GPU should run."""

from __future__ import annotations

import comfy.ldm.modules.attention as comfy_attention
import comfy.model_management as mm
from torch import Tensor

from ..varsr_core.varsr.transformer import AttentionFn
from ..varsr_core.varsr.transformer import attention as torch_attention


def pick_attention() -> AttentionFn:
    """torch's kernel on the CPU, where ComfyUI picks it too, and where its own would round.

    Sage attention quantises q and k; with a learned scale of up to 100 that changes tokens.
    """
    device = mm.get_torch_device()
    if mm.is_device_cpu(device) or mm.pytorch_attention_enabled() or mm.sage_attention_enabled():
        return torch_attention
    return host_attention


def host_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """ComfyUI's kernel with softmax scale 1; shapes as in the core.

    The kernel divides by sqrt(head_dim), and in some versions ignores a scale that it is given,
    so q is multiplied beforehand.
    """
    heads, head_dim = q.shape[1], q.shape[3]
    return comfy_attention.optimized_attention(
        q * head_dim**0.5, k, v, heads, skip_reshape=True, skip_output_reshape=True
    )
