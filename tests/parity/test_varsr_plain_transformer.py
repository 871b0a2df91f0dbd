"""Our transformer against the published one written plainly, from the released names.

Plain means: modulation layers applied to the class embedding, the three parts of the qkv bias,
neighbouring channels as rotary pairs, a cache that grows by concatenation.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from helpers import models
from helpers.each import each
from tools.random_checkpoint import MICRO
from varsr_core.varsr.sampling import SampleSettings, next_hidden, start_sampling
from varsr_core.varsr.weights import build_model, convert

SIDES, HEADS, WIDTH = MICRO.sides, MICRO.heads, MICRO.width
HEAD_DIM = WIDTH // HEADS


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def positions(side):
    return [(i / side * 32, j / side * 32) for i in range(side) for j in range(side)]


def rotate(x, places):
    """x: (H, L, d); channels (0, 1), (2, 3), ... are points of the plane."""
    turned = x.clone()
    half = HEAD_DIM // 2  # channels that turn with the row; the others turn with the column
    for token, place in enumerate(places):
        for pair in range(half):
            coordinate = place[0] if pair < half // 2 else place[1]
            angle = coordinate * 10000 ** (-4 * (pair % (half // 2)) / HEAD_DIM)
            a, b = x[:, token, 2 * pair], x[:, token, 2 * pair + 1]
            turned[:, token, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
            turned[:, token, 2 * pair + 1] = a * math.sin(angle) + b * math.cos(angle)
    return turned


def block(weights, name, x, condition, cache, places):
    """x: (L, D) of one row; condition: (D,); cache: [keys, values] of this block so far."""
    modulation = linear(weights, f"{name}.ada_lin.1", condition * torch.sigmoid(condition))
    gamma1, gamma2, scale1, scale2, shift1, shift2 = modulation.view(6, WIDTH)
    h = layer_norm(x) * (1 + scale1) + shift1
    q_bias, v_bias = weights[f"{name}.attn.q_bias"], weights[f"{name}.attn.v_bias"]
    qkv = h @ weights[f"{name}.attn.mat_qkv.weight"].T
    q, k, v = (part.view(len(x), HEADS, HEAD_DIM).transpose(0, 1) for part in qkv.chunk(3, dim=1))
    q = q + q_bias.view(HEADS, 1, HEAD_DIM)
    v = v + v_bias.view(HEADS, 1, HEAD_DIM)
    factor = weights[f"{name}.attn.scale_mul_1H11"].view(HEADS, 1, 1).clamp(max=math.log(100))
    q = rotate(q / q.norm(dim=-1, keepdim=True) * factor.exp(), places)
    k = rotate(k / k.norm(dim=-1, keepdim=True), places)
    cache[:] = [torch.cat((old, new), dim=1) for old, new in zip(cache, (k, v), strict=True)]
    k, v = cache
    attended = torch.softmax(q @ k.transpose(1, 2), dim=-1) @ v
    attended = attended.transpose(0, 1).reshape(len(x), WIDTH)
    x = x + linear(weights, f"{name}.attn.proj", attended) * gamma1
    h = linear(weights, f"{name}.ffn.fc1", layer_norm(x) * (1 + scale2) + shift2)
    h = h / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    return x + linear(weights, f"{name}.ffn.fc2", h) * gamma2


def plain_run(weights, prefix, latents, quality_class):
    """Hidden state and logits after each scale, of one row. prefix: (S * S, D)."""
    condition = weights["class_emb.weight"][quality_class]
    caches = [[torch.empty(HEADS, 0, HEAD_DIM, dtype=prefix.dtype)] * 2 for _ in range(MICRO.depth)]
    run = []
    for scale, side in enumerate(SIDES):
        if scale == 0:
            x = torch.cat((prefix, condition[None])) + weights["pos_start"][0]
            places = positions(SIDES[-1]) + positions(1)
        else:
            area = F.adaptive_avg_pool2d(latents[scale - 1], side)
            x = linear(weights, "word_embed", area.flatten(1).T)
            places = positions(side)
        x = x + weights["lvl_embed.weight"][scale]
        for layer, cache in enumerate(caches):
            x = block(weights, f"blocks.{layer}", x, condition, cache, places)
        x = x[-side * side :]
        modulation = linear(weights, "head_nm.ada_lin.1", condition * torch.sigmoid(condition))
        head_scale, head_shift = modulation.view(2, WIDTH)
        run.append((x, linear(weights, "head", layer_norm(x) * (1 + head_scale) + head_shift)))
    return run


@pytest.fixture(scope="module")
def weights():
    """float64, with one attention scale above its limit."""
    weights = models.reference_weights()
    weights["blocks.1.attn.scale_mul_1H11"][0, 0] = 6.0
    return weights


@pytest.fixture(scope="module")
def runs(weights):
    """Ours and the plain one on the same random prefix and latents, two rows each."""
    random = torch.Generator().manual_seed(0)
    prefix = torch.randn(1, SIDES[-1] ** 2, WIDTH, generator=random)
    latents = [torch.randn(1, 32, SIDES[-1], SIDES[-1], generator=random) for _ in SIDES]
    model = build_model(convert(weights))
    ours = []
    with torch.inference_mode():
        state = start_sampling(model, prefix, SampleSettings(), models.own_seeds(1))
        for scale, side in enumerate(SIDES):
            hidden = next_hidden(model, state, scale, keep=side * side)
            ours.append((hidden, model.transformer.logits(hidden, state.classes)))
            state.latents.append(latents[scale])
    exact = {name: tensor.double() for name, tensor in weights.items()}
    singles = [latent[0].double() for latent in latents]
    plain = [plain_run(exact, prefix[0].double(), singles, row) for row in (0, 1)]
    return ours, plain


@each("row", [0, 1])
@each("scale", range(len(SIDES)))
def test_hidden_state_equals_the_plain_one(runs, scale, row):
    ours, plain = runs
    found = ours[scale][0][row].double()
    torch.testing.assert_close(found, plain[row][scale][0], atol=1e-4, rtol=0)


@each("row", [0, 1])
@each("scale", range(len(SIDES)))
def test_logits_equal_the_plain_ones(runs, scale, row):
    ours, plain = runs
    found = ours[scale][1][row].double()
    torch.testing.assert_close(found, plain[row][scale][1], atol=1e-4, rtol=0)


def test_rows_of_the_two_classes_differ(runs):
    positive, negative = runs[0][-1][1]
    assert (positive - negative).abs().max() > 0.1
