"""NSARM checkpoints with random weights in the layout of the release, at a fraction of its size.

For tests and a first run without the 35 GB download. Pictures made with them have no meaning.

    python tools/random_nsarm.py FOLDER [--size micro|quarter] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

MANIFESTS = Path(__file__).resolve().parent.parent / "tests" / "data"
BLOCK = re.compile(r"block_chunks\.(\d+)\.module\.(\d+)\.")
MAP_LAYER = re.compile(r"map_transformer\.transformers\.\d+\.layers\.(\d+)\.")
RELEASED_WIDTH, RELEASED_TEXT, RELEASED_MAP_SIDE, RELEASED_VAE = 3584, 2048, 32, 128


@dataclass(frozen=True)
class Sizes:
    """What differs from the release; head sizes, bits and the map network's heads do not.

    divisor:     of the transformer's width and heads
    blocks:      of the transformer, in chunks of `per_chunk`
    text:        width of the text's features
    map_divisor: of the map network's widths
    map_side:    of the low-quality picture's latent
    vae:         width of the autoencoder's finest level; all levels have it
    sides:       of the token maps, where they differ from the released ones
    """

    divisor: int
    blocks: int
    per_chunk: int
    text: int
    map_divisor: int
    map_side: int
    vae: int
    sides: tuple[int, ...] | None = None


QUARTER = Sizes(4, 2, 2, 2048, 8, 32, 32)  # 896 wide, 7 heads of 128; 256 to 1024 pixels
MICRO = Sizes(28, 2, 1, 64, 16, 4, 32, (1, 2, 3, 4, 5, 6, 7, 8))  # 1 head; 32 to 128 pixels


def transformer_shapes(sizes: Sizes) -> Shapes:
    """Names and shapes in NSARM.pth."""
    shapes: Shapes = {}
    for name, shape in _manifest("nsarm_manifest.json").items():
        block, layer = BLOCK.match(name), MAP_LAYER.match(name)
        if layer and int(layer[1]) > 0:
            continue
        if block and int(block[1]) * sizes.per_chunk + int(block[2]) >= sizes.blocks:
            continue
        if block and int(block[2]) >= sizes.per_chunk:
            continue
        change = _map_size if name.startswith("map_transformer.") else _size
        shapes[name] = tuple(change(name, place, n, sizes) for place, n in enumerate(shape))
    return shapes


def _size(name: str, place: int, size: int, sizes: Sizes) -> int:
    """A side of a tensor of the transformer."""
    if name.startswith("text_proj_for_sos.ca.mat_q"):  # (1, heads, width of one)
        return max(2, size // sizes.divisor) if place == 2 else size
    if name.endswith("scale_mul_1H11"):
        return max(1, size // sizes.divisor)
    if size == RELEASED_TEXT and not name.startswith("block"):
        return sizes.text
    return size // sizes.divisor if size >= RELEASED_WIDTH else size


def _map_size(name: str, place: int, size: int, sizes: Sizes) -> int:
    convolutional = ".feature_extractor." in name or ".feature_transforms." in name
    if convolutional and place and _is_map_norm(name):
        return sizes.map_side
    if ".feature_extractor." in name:
        return size
    return size if size in (3, 14) else max(1, size // sizes.map_divisor)


def _is_map_norm(name: str) -> bool:
    """Layer norms over whole maps, by their place in the sequences of the release."""
    return int(name.split(".")[-2]) % 3 == 1


def vae_shapes(sizes: Sizes) -> Shapes:
    """Names and shapes in the autoencoder's file; one residual block a level."""
    shapes: Shapes = {}
    for name, shape in _manifest("nsarm_vae_manifest.json").items():
        block = re.search(r"\.(?:down|up)\.\d+\.block\.(\d+)\.", name)
        if (block and int(block[1]) > 0) or "nin_shortcut" in name:
            continue
        shapes[name] = tuple(sizes.vae if size >= RELEASED_VAE else size for size in shape)
    return shapes


def _manifest(file: str) -> Shapes:
    found = json.loads((MANIFESTS / file).read_text())["tensors"]
    return {name: tuple(entry["shape"]) for name, entry in found.items()}


def random_weights(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Tensors of these shapes that neither blow up nor die out when the model runs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {name: _tensor(name, shape, normal) for name, shape in shapes.items()}


def _tensor(
    name: str, shape: tuple[int, ...], normal: Callable[[tuple[int, ...]], Tensor]
) -> Tensor:
    if name.endswith("lfq.mask"):
        return 2 ** torch.arange(shape[0])
    if name.endswith("zero_k_bias"):
        return torch.zeros(shape)
    if name.endswith("scale_mul_1H11"):
        return math.log(10) + 0.1 * normal(shape)
    if name.endswith("ada_gss"):
        return 0.2 + 0.2 * normal(shape)
    if name.endswith("bias"):
        return 0.05 * normal(shape)
    if name.endswith("norm.weight") or len(shape) == 1 or _is_whole_norm(name, shape):
        return 1 + 0.1 * normal(shape)
    return normal(shape) / math.sqrt(max(1, math.prod(shape[1:])))


def _is_whole_norm(name: str, shape: tuple[int, ...]) -> bool:
    return name.startswith("map_transformer.") and len(shape) == 3


def write_release(folder: Path, sizes: Sizes, seed: int = 0) -> tuple[Path, Path]:
    """Writes NSARM.pth, nested as a trainer leaves it, and the autoencoder; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "NSARM.pth", folder / "infinity_vae_d56_f8_14_patchify.pth"
    transformer = random_weights(transformer_shapes(sizes), seed)
    if sizes.sides is not None:
        transformer["schedule"] = torch.tensor(sizes.sides)
    torch.save({"epoch": 0, "trainer": {"gpt_fsdp": transformer}}, paths[0])
    torch.save({"vae": random_weights(vae_shapes(sizes), seed + 1)}, paths[1])
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=("micro", "quarter"), default="quarter")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sizes = {"micro": MICRO, "quarter": QUARTER}[arguments.size]
    for path in write_release(arguments.folder, sizes, arguments.seed):
        print(f"{path} ({path.stat().st_size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
