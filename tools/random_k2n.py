"""K2N with random weights in the layout of the release, beside those of random_checkpoint.py.

    python tools/random_k2n.py FOLDER [--size micro|small|released] [--seed 0]

Where VQVAE.pth lies in the folder, the file says that it was made with that.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.random_checkpoint import (
    MICRO,
    RELEASED,
    SMALL,
    Shapes,
    Sizes,
    random_weights,
    tokenizer_shapes,
)


@dataclass(frozen=True)
class K2NSizes:
    """
    varsr:     the sizes of the VARSR that it is for
    scales:    side, width, layers, heads of each branch
    extractor: channels
    """

    varsr: Sizes
    scales: tuple[tuple[int, int, int, int], ...]
    extractor: tuple[int, int] = (128, 256)


RELEASED_SCALES = (
    (1, 384, 4, 8),
    (2, 448, 6, 8),
    (3, 768, 7, 8),
    (4, 864, 8, 8),
    (6, 1728, 9, 16),
)
SIZES = {
    "micro": K2NSizes(
        replace(MICRO, sides=(1, 2, 3, 8)), ((1, 16, 1, 4), (2, 32, 2, 8), (3, 16, 1, 4)), (16, 24)
    ),
    "small": K2NSizes(SMALL, ((1, 16, 1, 4), (2, 16, 2, 4), (3, 32, 2, 8)), (16, 24)),
    "released": K2NSizes(RELEASED, RELEASED_SCALES),
}


def reconstructor_shapes(sizes: K2NSizes) -> Shapes:
    channels, side = sizes.varsr.latent, sizes.varsr.sides[-1]
    widths = (channels, *sizes.extractor, channels)
    shapes = _convolutions("feature_extractor", widths, side)
    for number, (_, width, layers, _) in enumerate(sizes.scales):
        branch = f"branches.{number}"
        maps = (channels, width // 2, width)
        shapes |= _convolutions(f"{branch}.feature_transform", maps, side)
        for layer in range(layers):
            shapes |= _layer(f"{branch}.transformer.layers.{layer}", width)
        shapes |= _linear(f"{branch}.output_projection.0", width // 2, width)
        shapes |= _norm(f"{branch}.output_projection.1", (width // 2,))
        shapes |= _linear(f"{branch}.output_projection.3", channels, width // 2)
    count = (len(sizes.scales),)
    return shapes | {"input_residual_scale": count, "feature_residual_scale": count}


def _convolutions(name: str, widths: tuple[int, ...], side: int) -> Shapes:
    """Each with a norm over the whole map and an activation behind it."""
    shapes: Shapes = {}
    for number, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        shapes[f"{name}.{3 * number}.weight"] = (outputs, inputs, 3, 3)
        shapes[f"{name}.{3 * number}.bias"] = (outputs,)
        shapes |= _norm(f"{name}.{3 * number + 1}", (outputs, side, side))
    return shapes


def _layer(name: str, width: int) -> Shapes:
    shapes: Shapes = {
        f"{name}.self_attn.in_proj_weight": (3 * width, width),
        f"{name}.self_attn.in_proj_bias": (3 * width,),
    }
    shapes |= _linear(f"{name}.self_attn.out_proj", width, width)
    shapes |= _linear(f"{name}.linear1", 4 * width, width)
    shapes |= _linear(f"{name}.linear2", width, 4 * width)
    return shapes | _norm(f"{name}.norm1", (width,)) | _norm(f"{name}.norm2", (width,))


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape}


def random_release(sizes: K2NSizes, seed: int = 0, vae_sha256: str = "") -> dict[str, Any]:
    """What K2NSR.pth holds."""
    names = ("patch_size", "width", "layers", "heads")
    tokenizer = tokenizer_shapes(sizes.varsr)

    def part(name: str) -> dict[str, Tensor]:
        own = {n.removeprefix(name): s for n, s in tokenizer.items() if n.startswith(name)}
        return random_weights(own, sizes.varsr, seed + 1)

    return {
        "format": "k2nsr",
        "version": 1,
        "config": {
            "reconstructor": {
                "scales": [dict(zip(names, scale, strict=True)) for scale in sizes.scales],
                "channels": sizes.varsr.latent,
                "latent_size": sizes.varsr.sides[-1],
                "feature_channels": list(sizes.extractor),
            }
        },
        "vae_sha256": vae_sha256,
        "reconstructor": random_weights(reconstructor_shapes(sizes), sizes.varsr, seed),
        "lr_encoder": part("encoder."),
        "lr_quant_conv": part("quant_conv."),
        "training": {"epoch": 0},
    }


def write_release(folder: Path, sizes: K2NSizes, seed: int = 0) -> Path:
    """Writes K2NSR.pth and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, hashed = folder / "VQVAE.pth", ""
    if tokenizer.is_file():
        with tokenizer.open("rb") as file:
            hashed = hashlib.file_digest(file, "sha256").hexdigest()
    path = folder / "K2NSR.pth"
    torch.save(random_release(sizes, seed, hashed), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    path = write_release(arguments.folder, SIZES[arguments.size], arguments.seed)
    print(f"{path} ({path.stat().st_size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
