"""Deterministic weights for parity tests: every tensor is a function of (seed, name, shape) alone.

numpy's legacy RandomState stream is frozen, so these values are the same everywhere.
"""

import zlib

import numpy as np


def tensor(name: str, shape, seed: int = 0) -> np.ndarray:
    """float32 array for the parameter or buffer `name` of a VARSR / VQVAE state dict."""
    shape = tuple(int(s) for s in shape)
    rs = np.random.RandomState((zlib.crc32(name.encode()) ^ (seed * 0x9E3779B1)) & 0xFFFFFFFF)
    if name.endswith(("zero_k_bias", "ema_vocab_hit_SV")):
        return np.zeros(shape, np.float32)
    x = rs.standard_normal(shape).astype(np.float32) if shape else np.float32(rs.standard_normal())
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "scale_mul_1H11":
        return np.float32(np.log(40.0)) + 0.1 * x
    if leaf == "bias" and ".ada_lin." in name and not name.startswith("head_nm"):
        gate = np.arange(shape[0]) < shape[0] // 3  # gamma1, gamma2: open the residual gates
        return 0.05 * x + np.float32(0.7) * gate.astype(np.float32)
    if leaf in ("bias", "q_bias", "v_bias"):
        return 0.05 * x
    if "quantize.embedding" in name:
        return 0.5 * x
    if leaf == "weight" and len(shape) == 1:  # a norm layer's gain
        return 1.0 + 0.1 * x
    if "lvl_embed" in name:
        return 0.1 * x
    if "class_emb" in name:
        return 0.5 * x
    if leaf == "pos_start":
        return 0.5 * x
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    gain = 1.0
    if name.startswith(("con_embedding", "word_embed")) or "attn.proj" in name:
        gain = 2.0
    elif "ada_lin" in name:  # a small modulation, so that tokens stay distinct
        gain = 0.2
    return x * np.float32(gain / np.sqrt(fan_in))


def fill(state_dict, seed: int = 0, skip=("lvl_1L", "attn_bias_for_masking")):
    """Overwrite the torch tensors of `state_dict` in place (those in `skip` stay as built)."""
    import torch

    for name, value in state_dict.items():
        if name in skip or not torch.is_floating_point(value):
            continue
        value.copy_(torch.from_numpy(np.asarray(tensor(name, value.shape, seed))).to(value.dtype))
    return state_dict


def picture(size: int, seed: int = 0) -> np.ndarray:
    """(3, size, size) float32 test picture in [-1, 1]: sine gratings and discs."""
    rs = np.random.RandomState(1000 + seed)
    y, x = np.mgrid[0:size, 0:size] / size
    image = np.zeros((3, size, size), np.float32)
    for c in range(3):
        for _ in range(6):
            fx, fy, phase, a = (
                rs.uniform(-12, 12),
                rs.uniform(-12, 12),
                rs.uniform(0, 6.28),
                rs.uniform(0.1, 0.4),
            )
            image[c] += a * np.sin(2 * np.pi * (fx * x + fy * y) + phase)
    for _ in range(8):
        cx, cy, r = rs.uniform(0, 1, 3)
        colour = rs.uniform(-0.6, 0.6, 3)
        image[:, (x - cx) ** 2 + (y - cy) ** 2 < (0.05 + 0.15 * r) ** 2] += colour[:, None]
    return np.clip(image, -1, 1).astype(np.float32)


def refiner_noise(draws: int, tokens: int, channels: int, seed: int = 0) -> np.ndarray:
    """(draws, tokens, channels) float32: draw 0 is the start, draw i + 1 the noise of step i."""
    return (
        np.random.RandomState(77 + seed)
        .standard_normal((draws, tokens, channels))
        .astype(np.float32)
    )
