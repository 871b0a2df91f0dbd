"""Every intermediate number of one run, under the names of the recorded ones, for comparisons.

Anyone with the public code can record the same names there and compare. float32 on the CPU.

    python tools/trace.py --vqvae VQVAE.pth --varsr VARSR.pth --lq LQ.npy --noise NOISE.npy \\
        --cfg 6 --quality-class 0 --out OURS.safetensors [--follow THEIRS.safetensors]
    python tools/trace.py --vqvae VQVAE.pth --c2i VARSR_C2I.pth --label 3 --batch 1 \\
        --noise NOISE.npy --cfg 4 --out OURS.safetensors [--follow THEIRS.safetensors]

LQ     (N, 3, S * 16, S * 16) float32 in [-1, 1], S the last side
NOISE  (steps + 1, N * S * S, C): draw 0 starts the refiner, draw i + 1 belongs to its step i

Written: prefix_embed (N, D, S, S), then per scale k idx.k (N, side * side), logits_cond.k and
logits_neg.k (N, side * side, V) before guidance, f_hat.k (N, C, S, S); refiner.cond
(2 * N * S * S, D) positive rows first, refiner.residual (N * S * S, C), f_hat.final, image in
[0, 1]; encode.latent, encode.idx.k, encode.rest_before_last (N, S * S, C).

Where K2N gives the first scales (their ids then are its own):

    python tools/trace.py ... --k2n K2NSR.pth --lr LR.npy [--k2n-scales 3] --out OURS.safetensors

LR     (N, 3, S * 4, S * 4) float32 in [-1, 1]

Written beside: lr_latent (N, C, S / 4, S / 4), features (N, C, S, S), map.k (N, C, side, side), and
of the scales behind them guided.k (N, side * side, V), logits after guidance.

With --follow, rounding cannot pile up: scale k is fed THEIRS f_hat.(k-1), the refiner's condition
their last ids, the residual their refiner.cond, the image their f_hat.final, and each scale of the
encoder their encode.idx of the scales before.

A class-to-image model has no prefix_embed and no encode.*; greedy like the others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.trace_k2n import add_options, given_numbers
from varsr_core.checkpoint import load_checkpoint
from varsr_core.nn.guidance import guidance_ratios
from varsr_core.nn.token_sampling import guide
from varsr_core.varsr.kinds import (
    check_label,
    check_makes_classes,
    check_restores,
    guidance_schedule,
    refiner_guidance,
)
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.refiner import sample_residual
from varsr_core.varsr.sampling import SampleSettings, next_hidden, refiner_condition, start_sampling

Numbers = dict[str, Tensor]


@torch.inference_mode()
def trace(
    model: VARSR,
    lq: Tensor,
    noise: Tensor,
    cfg: float,
    quality_class: int,
    follow: Numbers,
    given: Numbers,
) -> Numbers:
    """All numbers of one batch; `follow` is empty for a free run, `given` without K2N."""
    side = model.config.schedule.final_side
    prefix = model.prefix_encoder(lq)
    numbers = {**given, "prefix_embed": prefix.transpose(1, 2).unflatten(2, (side, side))}
    _trace_sampling(model, prefix, cfg, quality_class, noise, follow, numbers)
    _trace_encoder(model, lq, follow, numbers)
    return numbers


@torch.inference_mode()
def trace_class(
    model: VARSR, batch: int, noise: Tensor, cfg: float, label: int, follow: Numbers
) -> Numbers:
    """The same of a class-to-image model."""
    numbers: Numbers = {}
    nothing = torch.zeros(batch, 0, model.config.transformer.width)
    _trace_sampling(model, nothing, cfg, label, noise, follow, numbers)
    return numbers


def _trace_sampling(
    model: VARSR,
    prefix: Tensor,
    cfg: float,
    quality_class: int,
    noise: Tensor,
    follow: Numbers,
    numbers: Numbers,
) -> None:
    hidden = _trace_scales(model, prefix, cfg, quality_class, follow, numbers)
    _trace_refiner(model, hidden, noise, refiner_guidance(model, cfg), follow, numbers)
    numbers["image"] = model.decode(follow.get("f_hat.final", numbers["f_hat.final"]))


def _trace_scales(
    model: VARSR,
    prefix: Tensor,
    cfg: float,
    quality_class: int,
    follow: Numbers,
    numbers: Numbers,
) -> Tensor:
    """Returns the hidden state of the last scale: (2 * N, S * S, D).

    numbers: where it has ids of a scale, that is not sampled
    """
    coarse = any(name.startswith("idx.") for name in numbers)
    # Any guidance: the negative rows are recorded even where cfg does not use them.
    settings = SampleSettings(guidance=1.0, quality_class=quality_class)
    ratios = guidance_ratios(model.config.schedule.num_scales, guidance_schedule(model))
    state = start_sampling(model, prefix, settings, seeds=[0] * len(prefix))
    for scale, side in enumerate(model.config.schedule.sides):
        state.latent = follow.get(f"f_hat.{scale - 1}", state.latent)
        state.hidden = next_hidden(model, state, scale, keep=side * side)
        positive, negative = model.transformer.logits(state.hidden, state.classes).chunk(2)
        guided = guide(positive, negative, cfg * ratios[scale])
        ids = numbers.get(f"idx.{scale}", guided.argmax(dim=-1)).long()
        if coarse and f"idx.{scale}" not in numbers:
            numbers[f"guided.{scale}"] = guided
        state.latents.append(state.latent + model.quantizer.residual(ids, scale))
        numbers |= {
            f"logits_cond.{scale}": positive,
            f"logits_neg.{scale}": negative,
            f"idx.{scale}": ids.int(),
            f"f_hat.{scale}": state.latent,
        }
    return state.hidden


def _trace_refiner(
    model: VARSR, hidden: Tensor, noise: Tensor, cfg: float, follow: Numbers, numbers: Numbers
) -> None:
    last = model.config.schedule.num_scales - 1
    ids = follow.get(f"idx.{last}", numbers[f"idx.{last}"]).long()
    condition = refiner_condition(model, hidden.unflatten(0, (2, -1)), ids).flatten(0, 2)
    used = follow.get("refiner.cond", condition).unflatten(0, (2, -1))
    residual = sample_residual(model.refiner, used, noise, guidance=cfg, steps=len(noise) - 1)
    latent = follow.get(f"f_hat.{last}", numbers[f"f_hat.{last}"])
    per_tile = residual.unflatten(0, (len(latent), -1)).transpose(1, 2)
    numbers |= {
        "refiner.cond": condition,
        "refiner.residual": residual,
        "f_hat.final": latent + per_tile.reshape(latent.shape),
    }


def _trace_encoder(model: VARSR, lq: Tensor, follow: Numbers, numbers: Numbers) -> None:
    scales = range(model.config.schedule.num_scales)
    forced = (
        [follow[f"encode.idx.{k}"].long() for k in scales] if "encode.idx.0" in follow else None
    )
    latent = model.pre_quantizer(model.encoder(lq))
    ids, _, rest = model.quantizer.encode(latent, forced)
    numbers |= {f"encode.idx.{k}": ids[k].int() for k in scales}
    numbers |= {
        "encode.latent": latent,
        "encode.rest_before_last": rest.flatten(2).transpose(1, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vqvae", type=Path, required=True)
    transformers = parser.add_mutually_exclusive_group(required=True)
    transformers.add_argument("--varsr", type=Path)
    transformers.add_argument("--c2i", type=Path)
    parser.add_argument("--lq", type=Path, help="with --varsr")
    parser.add_argument("--label", type=int, help="with --c2i")
    parser.add_argument("--batch", type=int, default=1, help="with --c2i: how many pictures")
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--cfg", type=float, required=True)
    parser.add_argument("--quality-class", type=int, default=0)
    add_options(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--follow", type=Path)
    arguments = parser.parse_args()

    numbers = _traced(arguments)
    save_file({name: t.contiguous() for name, t in numbers.items()}, arguments.out)
    print(f"{arguments.out}: {len(numbers)} tensors")


def _traced(arguments: argparse.Namespace) -> Numbers:
    model = load_checkpoint([arguments.vqvae, arguments.varsr or arguments.c2i]).build()
    noise = torch.from_numpy(np.load(arguments.noise)).float()
    follow = load_file(arguments.follow) if arguments.follow else {}
    if arguments.c2i is None:
        if arguments.lq is None:
            raise SystemExit("--varsr needs --lq")
        check_restores(model)
        lq = torch.from_numpy(np.load(arguments.lq)).float()
        _check_lq(model, lq)
        _check_noise(model, noise, len(lq))
        given = given_numbers(arguments, model, len(lq))
        return trace(model, lq, noise, arguments.cfg, arguments.quality_class, follow, given)
    if arguments.label is None:
        raise SystemExit("--c2i needs --label")
    check_makes_classes(model)
    check_label(model, arguments.label)
    _check_noise(model, noise, arguments.batch)
    return trace_class(model, arguments.batch, noise, arguments.cfg, arguments.label, follow)


def _check_lq(model: VARSR, lq: Tensor) -> None:
    tile = model.config.tile_size
    if lq.ndim != 4 or lq.shape[1:] != (3, tile, tile):
        raise SystemExit(f"--lq has shape {tuple(lq.shape)}; (N, 3, {tile}, {tile}) is expected")


def _check_noise(model: VARSR, noise: Tensor, batch: int) -> None:
    config, tokens = model.config, batch * model.config.last_tokens
    if noise.ndim != 3 or noise.shape[1:] != (tokens, config.tokenizer.latent_channels):
        raise SystemExit(
            f"--noise has shape {tuple(noise.shape)}; "
            f"(steps + 1, {tokens}, {config.tokenizer.latent_channels}) is expected"
        )


if __name__ == "__main__":
    main()
