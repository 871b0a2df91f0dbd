"""What it saves and costs to leave tokens out of the last two scales. The pack does not do it.

    python tools/benchmarks/pruning.py FOLDER [--truth FOLDER] [--model FILE] [--limit 2]
    python tools/benchmarks/pruning.py --size released [--shares 0.5,0.5]

After FastVAR (Guo et al. 2025, arXiv 2503.23367): at large scales only the tokens where the picture
is rough run through the blocks; the others enter neither cache nor head. What stands in for them:

    nothing  the word nearest to zero: the latent stays as it is, and is not refined
    earlier  what the blocks added at the scale before, resized, added to their own input

FOLDER has small pictures, --truth the same at four times the size. Every picture is enlarged in
each way right after the default, and processor time is counted; with --size the weights are random,
the picture is noise, and only the time says anything.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent), str(HERE)]

from bench import SIZES, release
from choices import DTYPES, psnr, read, restored

from varsr_core.checkpoint import load_checkpoint
from varsr_core.nn.attention import CachedAttention
from varsr_core.varsr.family import NANO_FILE
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import SampleSettings, SampleState, scale_logits
from varsr_core.varsr.weights import build_model, convert

FILLS = ("nothing", "earlier")
LUMA = torch.tensor([65.481, 128.553, 24.966])[:, None, None] / 255  # ITU-R BT.601


@dataclass(frozen=True)
class PruningRestorer(VARSRRestorer):
    """Samples greedily, and does not go on after a failure.

    shares: of the tokens left out at the last scale but one, and at the last
    """

    shares: tuple[float, float] = (0.5, 0.5)
    fill: str = FILLS[0]

    def step(self, state: SampleState, k: int) -> None:
        scales = self.model.config.schedule.num_scales
        if scales - 2 <= k < scales and self.shares[k - scales]:
            self._sample(state, k, self.shares[k - scales])
            return
        super().step(state, k)
        if k == scales and self.shares[-1] and self.fill == "nothing":
            kept = pivotal(self.model, state.latents[-3], k - 1, self.shares[-1])
            refined = torch.zeros(state.latent[:, 0].flatten(1).shape, dtype=torch.bool)
            refined = refined.scatter_(1, kept, True).view_as(state.latent[:, 0])[:, None]
            state.latent = torch.where(refined, state.latents[-1], state.latents[-2])

    def _sample(self, state: SampleState, k: int, share: float) -> None:
        """As sample_scale(), for some of the tokens."""
        model = self.model
        if state.guided and k >= state.guided_scales:
            state.drop_negative()
        rows = len(state.classes) // state.tiles
        kept = pivotal(model, state.latent, k, share)
        x = embedded(model, state.latent, k).repeat(rows, 1, 1)
        index = kept.repeat(rows, 1)[:, :, None].expand(-1, -1, x.shape[2])
        rope = model.transformer.rope(k)[:, kept].repeat(1, rows, 1, 1)[:, :, None]
        hidden = model.transformer.run_blocks(
            model.transformer.blocks,
            x.gather(1, index),
            state.classes,
            CachedAttention(state.cache, model.transformer.attention),
            rope,
            kept.shape[1],
        )
        state.cache.advance(kept.shape[1])
        before = embedded(model, state.latents[-2], k - 1).repeat(rows, 1, 1)
        added = state.hidden[: len(x)] - before
        state.hidden = (x + resized(added, math.isqrt(x.shape[1]))).scatter_(1, index, hidden)
        ids = scale_logits(model, state, k, self.sampling).argmax(dim=-1)
        if self.fill == "nothing":
            least = model.quantizer.nearest(torch.zeros(model.config.tokenizer.latent_channels))
            ids = torch.full_like(ids, least).scatter_(1, kept, ids.gather(1, kept))
        state.token_ids.append(ids)
        state.latents.append(state.latent + model.quantizer.residual(ids, k))


def pivotal(model: VARSR, latent: Tensor, scale: int, share: float) -> Tensor:
    """Tokens around which the latent changes most: (N, all but `share`), in their order."""
    side = model.config.schedule.sides[scale]
    cells = model.quantizer.downsample(latent, scale).transpose(1, 2).unflatten(2, (side, side))
    rough = (cells - blurred(cells)).norm(dim=1, keepdim=True)
    count = max(1, round((1 - share) * side * side))
    return blurred(rough).flatten(1).topk(count).indices.sort().values


def blurred(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def embedded(model: VARSR, latent: Tensor, scale: int) -> Tensor:
    """Input of the blocks: (N, side * side, D)."""
    words = model.embed_words(model.quantizer.downsample(latent, scale))
    return model.transformer.embed_map(words, scale)


def resized(tokens: Tensor, side: int) -> Tensor:
    """(R, L, D) -> (R, side * side, D)."""
    before = math.isqrt(tokens.shape[1])
    cells = tokens.transpose(1, 2).unflatten(2, (before, before))
    return F.interpolate(cells, (side, side), mode="bilinear").flatten(2).transpose(1, 2)


def pictures(arguments: argparse.Namespace, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """(1, 3, H, W) each, and its truth."""
    if arguments.size:
        for _ in range(arguments.limit):
            yield torch.rand(1, 3, size // 4, size // 4), None
        return
    for path in sorted(arguments.folder.glob("*.png"))[: arguments.limit]:
        yield read(path), read(arguments.truth / path.name) if arguments.truth else None


def luma(picture: Tensor) -> Tensor:
    return (picture * LUMA).sum(dim=1)


def pair(text: str) -> tuple[float, float]:
    first, last = map(float, text.split(","))
    return first, last


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--model", type=Path, default=NANO_FILE)
    parser.add_argument("--size", choices=SIZES)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--shares", nargs="+", type=pair, default=[(0.5, 0.5)])
    parser.add_argument("--fill", nargs="+", choices=FILLS, default=FILLS)
    parser.add_argument("--limit", type=int, default=2)
    arguments = parser.parse_args()
    if not (arguments.size or arguments.folder):
        parser.error("a FOLDER or --size is expected")
    of_size = arguments.size and convert(release(arguments.size))
    weights = of_size or load_checkpoint([arguments.model]).tensors
    model = build_model(weights, dtype=DTYPES[arguments.dtype])
    ways = {"default": VARSRRestorer(model)}
    ways["last 2 unguided"] = VARSRRestorer(model, SampleSettings(unguided_scales=2))
    for shares, fill in itertools.product(arguments.shares, arguments.fill):
        name = f"{shares[0]:g} and {shares[1]:g} left out, {fill}"
        ways[name] = PruningRestorer(model, shares=shares, fill=fill)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for image, truth in pictures(arguments, model.config.tile_size):
        restored(ways["default"], image)  # the warm-up
        for name, way in ways.items():
            expected, base = restored(ways["default"], image)
            result, took = restored(way, image)
            true = float("nan") if truth is None else psnr(luma(result), luma(truth))
            found[name].append((took / base, psnr(result, expected), true))
    for name, numbers in found.items():
        ratio, alike, true = (statistics.mean(column) for column in zip(*numbers, strict=True))
        print(f"{name:34} {ratio:.2f} of the time, {alike:6.2f} dB to the default's, {true:.2f} Y")


if __name__ == "__main__":
    main()
