"""Checkpoints with random weights in the layout of the release, of any size.

For tests, benchmarks and a first run without the 15 GB download. Pictures made with them have no
meaning.

    python tools/random_checkpoint.py FOLDER [--size small|released] [--seed 0] [--class-to-image]
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sizes:
    """What a release's tensors tell of a model; the defaults are the released ones."""

    width: int = 1536
    depth: int = 24
    heads: int = 24
    codebook: int = 4096
    sides: tuple[int, ...] = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
    levels: tuple[int, ...] = (160, 160, 320, 320, 640)
    latent: int = 32
    prefix: tuple[int, ...] = (32, 128, 256, 512, 1536)
    refiner_width: int = 1024
    refiner_depth: int = 6
    classes: int = 2
    encoder_blocks: int = field(default=2, kw_only=True)
    decoder_blocks: int = field(default=3, kw_only=True)


RELEASED = Sizes()
CLASS_TO_IMAGE_SIDES = (1, 2, 3, 4, 6, 9, 12, 16, 20, 24, 28, 32)
SMALL = Sizes(64, 2, 2, 256, RELEASED.sides, (32,) * 5, 32, (32, 32, 32, 32, 64), 64, 2)
MICRO = Sizes(32, 2, 2, 64, (1, 2, 3, 4), (32,) * 5, 32, (32, 32, 32, 32, 32), 32, 2)


def tokenizer_shapes(sizes: Sizes) -> Shapes:
    """Names and shapes in VQVAE.pth."""
    levels, coarse = sizes.levels, sizes.levels[-1]
    last = len(levels) - 1
    shapes: Shapes = {}
    for side, count in (("encoder", sizes.encoder_blocks), ("decoder", sizes.decoder_blocks)):
        ends = (levels[0], 3) if side == "encoder" else (coarse, sizes.latent)
        shapes |= _layer(f"{side}.conv_in", *ends, 3)
        for i, width in enumerate(levels):
            name = f"{side}.{'down' if side == 'encoder' else 'up'}.{i}"
            before = levels[max(i - 1, 0)] if side == "encoder" else levels[min(i + 1, last)]
            for block in range(count):
                shapes |= _residual(f"{name}.block.{block}", width if block else before, width)
                if i == last:
                    shapes |= _attention(f"{name}.attn.{block}", width)
            if side == "encoder" and i < last:
                shapes |= _layer(f"{name}.downsample.conv", width, width, 3)
            if side == "decoder" and i > 0:
                shapes |= _layer(f"{name}.upsample.conv", width, width, 3)
        shapes |= _residual(f"{side}.mid.block_1", coarse, coarse)
        shapes |= _attention(f"{side}.mid.attn_1", coarse)
        shapes |= _residual(f"{side}.mid.block_2", coarse, coarse)
        out = coarse if side == "encoder" else levels[0]
        shapes |= _norm(f"{side}.norm_out", out)
        shapes |= _layer(f"{side}.conv_out", sizes.latent if side == "encoder" else 3, out, 3)
    shapes["quantize.ema_vocab_hit_SV"] = (len(sizes.sides), sizes.codebook)
    shapes["quantize.embedding.weight"] = (sizes.codebook, sizes.latent)
    for phi in range(4):
        shapes |= _layer(f"quantize.quant_resi.qresi_ls.{phi}", sizes.latent, sizes.latent, 3)
    for name in ("quant_conv", "post_quant_conv"):
        shapes |= _layer(name, sizes.latent, sizes.latent, 3)
    return shapes


def transformer_shapes(sizes: Sizes, *, with_prefix: bool = True) -> Shapes:
    """Names and shapes in VARSR.pth, or without the prefix encoder in VARSR_C2I.pth."""
    width, prefix = sizes.width, sizes.sides[-1] ** 2 if with_prefix else 0
    tokens = prefix + sum(side * side for side in sizes.sides)
    shapes: Shapes = {
        "pos_start": (1, prefix + 1, width),
        "lvl_1L": (1, tokens),
        "attn_bias_for_masking": (1, 1, tokens, tokens),
        "class_emb.weight": (sizes.classes, width),
        "lvl_embed.weight": (len(sizes.sides), width),
    }
    if with_prefix:
        shapes |= _layer("con_embedding.conv_in", sizes.prefix[0], 3, 3)
        for i, narrow in enumerate(sizes.prefix[:-1]):
            shapes |= _layer(f"con_embedding.blocks.{2 * i}", narrow, narrow, 3)
            shapes |= _layer(f"con_embedding.blocks.{2 * i + 1}", sizes.prefix[i + 1], narrow, 3)
        shapes |= _layer("con_embedding.conv_out", width, sizes.prefix[-1], 3)
    shapes |= _layer("word_embed", width, sizes.latent)
    for i in range(sizes.depth):
        block = f"blocks.{i}"
        shapes[f"{block}.attn.scale_mul_1H11"] = (1, sizes.heads, 1, 1)
        for bias in ("q_bias", "v_bias", "zero_k_bias"):
            shapes[f"{block}.attn.{bias}"] = (width,)
        shapes[f"{block}.attn.mat_qkv.weight"] = (3 * width, width)
        shapes |= _layer(f"{block}.attn.proj", width, width)
        shapes |= _layer(f"{block}.ffn.fc1", 4 * width, width)
        shapes |= _layer(f"{block}.ffn.fc2", width, 4 * width)
        shapes |= _layer(f"{block}.ada_lin.1", 6 * width, width)
    shapes |= _layer("head_nm.ada_lin.1", 2 * width, width)
    shapes |= _layer("head", sizes.codebook, width)
    shapes |= _norm("decoder_norm", width)
    return shapes | _refiner_shapes(sizes)


def _refiner_shapes(sizes: Sizes) -> Shapes:
    width, net = sizes.refiner_width, "diffloss.net"
    shapes = _layer(f"{net}.time_embed.mlp.0", width, 256)
    shapes |= _layer(f"{net}.time_embed.mlp.2", width, width)
    shapes |= _layer(f"{net}.cond_embed", width, sizes.width)
    shapes |= _layer(f"{net}.input_proj", width, sizes.latent)
    for i in range(sizes.refiner_depth):
        block = f"{net}.res_blocks.{i}"
        shapes |= _norm(f"{block}.in_ln", width)
        shapes |= _layer(f"{block}.mlp.0", width, width) | _layer(f"{block}.mlp.2", width, width)
        shapes |= _layer(f"{block}.adaLN_modulation.1", 3 * width, width)
    shapes |= _layer(f"{net}.final_layer.linear", 2 * sizes.latent, width)
    return shapes | _layer(f"{net}.final_layer.adaLN_modulation.1", 2 * width, width)


def _layer(name: str, outputs: int, inputs: int, kernel: int = 0) -> Shapes:
    window = (kernel, kernel) if kernel else ()
    return {f"{name}.weight": (outputs, inputs, *window), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _residual(name: str, inputs: int, outputs: int) -> Shapes:
    shapes = _norm(f"{name}.norm1", inputs) | _layer(f"{name}.conv1", outputs, inputs, 3)
    shapes |= _norm(f"{name}.norm2", outputs) | _layer(f"{name}.conv2", outputs, outputs, 3)
    return (
        shapes if inputs == outputs else shapes | _layer(f"{name}.nin_shortcut", outputs, inputs, 1)
    )


def _attention(name: str, width: int) -> Shapes:
    shapes = _norm(f"{name}.norm", width) | _layer(f"{name}.qkv", 3 * width, width, 1)
    return shapes | _layer(f"{name}.proj_out", width, width, 1)


def random_weights(
    shapes: Shapes,
    sizes: Sizes,
    seed: int = 0,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Tensors of these shapes that neither blow up nor die out when the model runs.

    device: where they are made; other devices draw other numbers
    dtype:  that they are kept in
    """
    generator = torch.Generator(device).manual_seed(seed)

    def kept(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return {name: kept(_tensor(name, shape, sizes, generator)) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], sizes: Sizes, generator: torch.Generator) -> Tensor:
    device = generator.device
    if name == "lvl_1L":
        counts = [side * side for side in sizes.sides]
        counts[0] += shape[1] - sum(counts)  # scale 0 also numbers the prefix
        return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))[None]
    if name.endswith(("attn_bias_for_masking", "zero_k_bias", "ema_vocab_hit_SV")):
        return torch.zeros(shape, device=device)
    values = torch.randn(shape, generator=generator, device=device)
    if name.endswith("scale_mul_1H11"):
        return math.log(40) + 0.1 * values
    if name.endswith(".ada_lin.1.bias") and name.startswith("blocks"):
        values *= 0.05
        values[: shape[0] // 3] += 0.7  # opens the residual gates
        return values
    if name.endswith("bias"):
        return 0.05 * values
    if len(shape) == 1:  # the gain of a norm
        return 1 + 0.1 * values
    if name.startswith(("quantize.embedding", "class_emb", "pos_start")):
        return 0.5 * values
    if name.startswith("lvl_embed"):
        return 0.1 * values
    gain = 0.2 if "ada_lin" in name else 1.0
    return values * gain / math.sqrt(math.prod(shape[1:]))


def class_to_image(sizes: Sizes) -> Sizes:
    """Of the class-to-image model beside a model of these sizes."""
    small = sizes.sides[-1] < CLASS_TO_IMAGE_SIDES[-1]
    classes = 3831 if sizes is RELEASED else 11
    return replace(sizes, sides=sizes.sides if small else CLASS_TO_IMAGE_SIDES, classes=classes)


def write_release(
    folder: Path, sizes: Sizes, seed: int = 0, *, with_prefix: bool = True
) -> tuple[Path, Path]:
    """Writes VQVAE.pth and VARSR.pth, nested as the trainer left them, and returns their paths.

    with_prefix: or VARSR_C2I.pth, of class_to_image(sizes)
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = random_weights(tokenizer_shapes(sizes), sizes, seed)
    of = sizes if with_prefix else class_to_image(sizes)
    transformer = random_weights(transformer_shapes(of, with_prefix=with_prefix), of, seed + 1)
    paths = folder / "VQVAE.pth", folder / ("VARSR.pth" if with_prefix else "VARSR_C2I.pth")
    torch.save({"epoch": 0, "trainer": {"vae_local": tokenizer}}, paths[0])
    torch.save({"epoch": 0, "trainer": {"var_wo_ddp": transformer}}, paths[1])
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=("micro", "small", "released"), default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--class-to-image", action="store_true", help="VARSR_C2I.pth in place of VARSR.pth"
    )
    arguments = parser.parse_args()
    sizes = {"micro": MICRO, "small": SMALL, "released": RELEASED}[arguments.size]
    with_prefix = not arguments.class_to_image
    for path in write_release(arguments.folder, sizes, arguments.seed, with_prefix=with_prefix):
        print(f"{path} ({path.stat().st_size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
