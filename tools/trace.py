"""Every intermediate number of one run, under the names of the recorded ones, for comparisons.

Anyone with the public code can record the same names there and compare. float32 on the CPU.

    python tools/trace.py --vqvae VQVAE.pth --varsr VARSR.pth --lq LQ.npy --noise NOISE.npy \\
        --cfg 6 --quality-class 0 --out OURS.safetensors [--follow THEIRS.safetensors]

LQ     (N, 3, S * 16, S * 16) float32 in [-1, 1], S the last side
NOISE  (steps + 1, N * S * S, C): draw 0 starts the refiner, draw i + 1 belongs to its step i

Written: prefix_embed (N, D, S, S), then per scale k idx.k (N, side * side), logits_cond.k and
logits_neg.k (N, side * side, V) before guidance, f_hat.k (N, C, S, S); refiner.cond
(2 * N * S * S, D) positive rows first, refiner.residual (N * S * S, C), f_hat.final, image in
[0, 1]; encode.latent, encode.idx.k, encode.rest_before_last (N, S * S, C).

With --follow, rounding cannot pile up: scale k is fed THEIRS f_hat.(k-1), the refiner's condition
their last ids, the residual their refiner.cond, the image their f_hat.final, and each scale of the
encoder their encode.idx of the scales before.
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

from varsr_core.checkpoint import load_checkpoint
from varsr_core.nn.token_sampling import guide
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.refiner import sample_residual
from varsr_core.varsr.sampling import SampleSettings, next_hidden, refiner_condition, start_sampling

Numbers = dict[str, Tensor]


@torch.inference_mode()
def trace(
    model: VARSR, lq: Tensor, noise: Tensor, cfg: float, quality_class: int, follow: Numbers
) -> Numbers:
    """All numbers of one batch; `follow` is empty for a free run."""
    side = model.config.schedule.final_side
    prefix = model.prefix_encoder(lq)
    numbers = {"prefix_embed": prefix.transpose(1, 2).unflatten(2, (side, side))}
    hidden = _trace_scales(model, prefix, cfg, quality_class, follow, numbers)
    _trace_refiner(model, hidden, noise, cfg, follow, numbers)
    numbers["image"] = model.decode(follow.get("f_hat.final", numbers["f_hat.final"]))
    _trace_encoder(model, lq, follow, numbers)
    return numbers


def _trace_scales(
    model: VARSR,
    prefix: Tensor,
    cfg: float,
    quality_class: int,
    follow: Numbers,
    numbers: Numbers,
) -> Tensor:
    """Returns the hidden state of the last scale: (2 * N, S * S, D)."""
    # Any guidance: the negative rows are recorded even where cfg does not use them.
    settings = SampleSettings(guidance=1.0, quality_class=quality_class)
    state = start_sampling(model, prefix, settings, seeds=[0] * len(prefix))
    for scale, side in enumerate(model.config.schedule.sides):
        state.latent = follow.get(f"f_hat.{scale - 1}", state.latent)
        state.hidden = next_hidden(model, state, scale, keep=side * side)
        positive, negative = model.transformer.logits(state.hidden, state.classes).chunk(2)
        strength = cfg * model.config.schedule.guidance_ratio(scale)
        ids = guide(positive, negative, strength).argmax(dim=-1)
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
    forced = [follow[f"encode.idx.{k}"].long() for k in scales] if follow else None
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
    parser.add_argument("--varsr", type=Path, required=True)
    parser.add_argument("--lq", type=Path, required=True)
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--cfg", type=float, required=True)
    parser.add_argument("--quality-class", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--follow", type=Path)
    arguments = parser.parse_args()

    model = load_checkpoint([arguments.vqvae, arguments.varsr]).build()
    lq, noise = (torch.from_numpy(np.load(p)).float() for p in (arguments.lq, arguments.noise))
    _check(model, lq, noise)
    follow = load_file(arguments.follow) if arguments.follow else {}
    numbers = trace(model, lq, noise, arguments.cfg, arguments.quality_class, follow)
    save_file({name: t.contiguous() for name, t in numbers.items()}, arguments.out)
    print(f"{arguments.out}: {len(numbers)} tensors")


def _check(model: VARSR, lq: Tensor, noise: Tensor) -> None:
    config, tile = model.config, model.config.tile_size
    tokens = len(lq) * config.prefix_tokens
    if lq.ndim != 4 or lq.shape[1:] != (3, tile, tile):
        raise SystemExit(f"--lq has shape {tuple(lq.shape)}; (N, 3, {tile}, {tile}) is expected")
    if noise.ndim != 3 or noise.shape[1:] != (tokens, config.tokenizer.latent_channels):
        raise SystemExit(
            f"--noise has shape {tuple(noise.shape)}; "
            f"(steps + 1, {tokens}, {config.tokenizer.latent_channels}) is expected"
        )


if __name__ == "__main__":
    main()
