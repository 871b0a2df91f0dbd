"""A layer of the core that ComfyUI has none for, moved the way ComfyUI moves its own.

Where a model does not fit onto the card, ComfyUI leaves some layers in system memory, pinned, and
its layers copy their weights when they run: on a stream of their own, two in turn (--async-offload,
the default on NVIDIA), so that one layer's copy runs beside the work of the layer before. All other
layers of the pack are ComfyUI's (`host.operations`) and have that from it.
"""

from __future__ import annotations

import comfy.ops
from torch import Tensor

from ..varsr_core.nn.float8 import Float8Linear


class OffloadableFloat8Linear(Float8Linear, comfy.ops.CastWeightBiasOp):
    """Copies its weight in 8 bits: half of what ComfyUI's own layers move for bf16."""

    comfy_cast_weights = True  # what ComfyUI knows a layer by that it may leave in system memory

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, stream = comfy.ops.cast_bias_weight(
            self, x, dtype=self.weight.dtype, bias_dtype=x.dtype, offloadable=True
        )
        product = self.product(x, weight, bias)
        comfy.ops.uncast_bias_weight(self, weight, bias, stream)
        return product
