"""VARSR done the plain way, straight from the released tensors.

The work is laid out as in the public code: a modulation layer in every block, keys and values that
grow by concatenation, logits of every prefix token, guidance rows computed throughout, the
refiner's condition embedded anew at each step. It is what the pack's speed and memory are measured
against, and an independent second opinion on its numbers. float32, or what autocast makes of it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from varsr_core.varsr.refiner import ddpm_steps

Weights = dict[str, Tensor]
GRID, EPS = 32, 1e-6


def _linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _conv(w: Weights, name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride, padding)


def _norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], EPS)


def _plain_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


def _rope(x: Tensor, positions: Tensor) -> Tensor:
    """x: (R, H, L, head_dim), neighbouring channels paired, as complex numbers."""
    quarter = x.shape[-1] // 4
    rates = 10000.0 ** (-torch.arange(quarter) / quarter)
    angles = (positions[:, :, None] * rates).flatten(1).to(x.device)
    turned = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.view_as_real(turned).flatten(-2)


def _positions(side: int) -> Tensor:
    index = torch.arange(side) / side * GRID
    return torch.cartesian_prod(index, index)


class PlainTransformer:
    """weights: of VARSR.pth by their released names."""

    def __init__(self, weights: Weights, sides: list[int]) -> None:
        self.w, self.sides = weights, sides
        self.depth = 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("blocks."))
        self.cache: list[tuple[Tensor, Tensor] | None] = [None] * self.depth

    def prefix(self, lq: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, S * S, D)."""
        x = F.silu(_conv(self.w, "con_embedding.conv_in", lq))
        convolutions = sum(n.startswith("con_embedding.blocks") for n in self.w) // 2
        for i in range(convolutions):
            x = F.silu(_conv(self.w, f"con_embedding.blocks.{i}", x, stride=1 + i % 2))
        return _conv(self.w, "con_embedding.conv_out", x).flatten(2).transpose(1, 2)

    def run(self, x: Tensor, condition: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden state and logits of all tokens given: (R, L, D), (R, L, V)."""
        for i in range(self.depth):
            x = self._block(i, x, condition, positions)
        scale, shift = _linear(self.w, "head_nm.ada_lin.1", F.silu(condition)).chunk(2, -1)
        h = _plain_norm(x) * (1 + scale[:, None]) + shift[:, None]
        return x, _linear(self.w, "head", h)

    def _block(self, i: int, x: Tensor, condition: Tensor, positions: Tensor) -> Tensor:
        name, w = f"blocks.{i}", self.w
        table = _linear(w, f"{name}.ada_lin.1", F.silu(condition))[:, None]
        gamma1, gamma2, scale1, scale2, shift1, shift2 = table.chunk(6, -1)
        h = _plain_norm(x) * (1 + scale1) + shift1
        q_bias = w[f"{name}.attn.q_bias"]
        bias = torch.cat((q_bias, torch.zeros_like(q_bias), w[f"{name}.attn.v_bias"]))
        heads = w[f"{name}.attn.scale_mul_1H11"].shape[1]
        qkv = F.linear(h, w[f"{name}.attn.mat_qkv.weight"], bias)
        q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        scale = w[f"{name}.attn.scale_mul_1H11"].clamp(max=math.log(100)).exp()
        q = _rope(F.normalize(q, dim=-1) * scale, positions)
        k = _rope(F.normalize(k, dim=-1), positions)
        q, k = q.to(v), k.to(v)
        if self.cache[i] is not None:
            k = torch.cat((self.cache[i][0], k), dim=2)
            v = torch.cat((self.cache[i][1], v), dim=2)
        self.cache[i] = k, v
        h = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).flatten(2)
        x = x + _linear(w, f"{name}.attn.proj", h) * gamma1
        h = _plain_norm(x) * (1 + scale2) + shift2
        h = F.gelu(_linear(w, f"{name}.ffn.fc1", h), approximate="tanh")
        return x + _linear(w, f"{name}.ffn.fc2", h) * gamma2


def refine(w: Weights, condition: Tensor, noise: Tensor, cfg: float) -> Tensor:
    """condition: (2 * M, D); noise: (steps + 1, M, C) -> (M, C), already times 0.6."""
    net, x, steps = "diffloss.net", noise[0], ddpm_steps(len(noise) - 1)
    blocks = sum(n.endswith("in_ln.weight") for n in w)
    for i, step in enumerate(steps):
        rates = torch.exp(-math.log(10000) * torch.arange(128) / 128)
        angles = (torch.full((len(condition), 1), float(step.timestep)) * rates).to(
            condition.device
        )
        time = F.silu(
            _linear(w, f"{net}.time_embed.mlp.0", torch.cat((angles.cos(), angles.sin()), 1))
        )
        y = _linear(w, f"{net}.time_embed.mlp.2", time)
        y = F.silu(y + _linear(w, f"{net}.cond_embed", condition))
        h = _linear(w, f"{net}.input_proj", torch.cat((x, x)))
        for b in range(blocks):
            block = f"{net}.res_blocks.{b}"
            shift, scale, gate = _linear(w, f"{block}.adaLN_modulation.1", y).chunk(3, -1)
            inner = _norm(w, f"{block}.in_ln", h) * (1 + scale) + shift
            inner = F.silu(_linear(w, f"{block}.mlp.0", inner))
            h = h + gate * _linear(w, f"{block}.mlp.2", inner)
        shift, scale = _linear(w, f"{net}.final_layer.adaLN_modulation.1", y).chunk(2, -1)
        h = _linear(w, f"{net}.final_layer.linear", _plain_norm(h) * (1 + scale) + shift)
        eps, variance = h.chunk(2, -1)
        positive, negative = eps.chunk(2)
        eps, variance = (1 + cfg) * positive - cfg * negative, variance[: len(x)]
        x0 = (step.x0_from_x * x - step.x0_from_eps * eps).clamp(-1, 1)
        mean = step.mean_from_x0 * x0 + step.mean_from_x * x
        f = (variance + 1) / 2
        spread = torch.exp((f * step.log_beta + (1 - f) * step.log_posterior) / 2)
        x = mean if i == len(steps) - 1 else mean + spread * noise[i + 1]
    return x * 0.6


@torch.inference_mode()
def restore(
    weights: Weights, tokenizer: torch.nn.Module, lq: Tensor, noise: Tensor, cfg: float
) -> tuple[list[Tensor], Tensor]:
    """Token ids of every scale, and the picture in [0, 1].

    weights:   of VARSR.pth by their released names
    tokenizer: a VARSR model of ours for quantizer and decoder, which do the same work either way
    lq:        (1, 3, tile, tile) in [-1, 1]
    noise:     (steps + 1, S * S, C)
    """
    sides = list(tokenizer.config.schedule.sides)
    network, quantizer = PlainTransformer(weights, sides), tokenizer.quantizer
    classes = weights["class_emb.weight"]
    condition = classes[[0, -1]]
    prefix = network.prefix(lq).expand(2, -1, -1)
    x = torch.cat((prefix, condition[:, None]), dim=1) + weights["pos_start"]
    x = x + weights["lvl_embed.weight"][0]
    positions = torch.cat((_positions(sides[-1]), _positions(1)))
    latent = torch.zeros(1, noise.shape[-1], sides[-1], sides[-1], device=lq.device)
    ids: list[Tensor] = []
    for scale, side in enumerate(sides):
        if scale:
            words = F.interpolate(latent, (side, side), mode="area").flatten(2).transpose(1, 2)
            x = _linear(weights, "word_embed", words) + weights["lvl_embed.weight"][scale]
            x, positions = x.expand(2, -1, -1), _positions(side)
        hidden, logits = network.run(x, condition, positions)
        positive, negative = logits[:, -side * side :].chunk(2)
        t = cfg * scale / (len(sides) - 1)
        ids.append(((1 + t) * positive - t * negative).argmax(-1))
        latent = latent + quantizer.residual(ids[-1], scale)
    words = _linear(weights, "word_embed", quantizer.codebook(ids[-1]))
    z = _norm(weights, "decoder_norm", hidden + words).flatten(0, 1)
    residual = refine(weights, z, noise, cfg)
    latent = latent + residual.T.unflatten(1, (sides[-1], sides[-1]))
    return ids, tokenizer.decode(latent)
