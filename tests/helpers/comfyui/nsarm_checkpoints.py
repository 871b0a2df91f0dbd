"""NSARM files for the server: tiny random models in the layout of the release, and broken ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from tools.random_nsarm import (
    MICRO,
    QUARTER,
    random_weights,
    transformer_shapes,
    vae_shapes,
    write_release,
)
from varsr_core.convert import DTYPES, convert_files

AUTOENCODER = "infinity_vae_d56_f8_14_patchify.pth"
OTHER_SEED = 7
TEXT_WIDTH = MICRO.text
T5 = {"layers": 2, "heads": 4, "head": 8, "wide": 96, "buckets": 32, "vocabulary": 32128}


def write_nsarm(models: Path) -> None:
    """nsarm/: NSARM.pth and its autoencoder, tiles of 32 -> 128 pixels; the same as micro_fp32,
    micro_bf16 and micro_fp8.safetensors; other.safetensors of the same sizes; the folder "broken".
    text_encoders/: a tiny T5. varsr/: one of the files, where it does not belong."""
    folder = models / "nsarm"
    release = list(write_release(folder, MICRO))
    for name, dtype in DTYPES.items():
        convert_files(release, folder / f"micro_{name}.safetensors", dtype)
    other = list(write_release(models / "elsewhere", MICRO, OTHER_SEED))
    convert_files(other, folder / "other.safetensors", torch.float32)
    _write_broken(folder)
    (models / "varsr").mkdir(exist_ok=True)
    shutil.copy(folder / "micro_fp32.safetensors", models / "varsr" / "nsarm.safetensors")
    shutil.copy(folder / "NSARM.pth", models / "varsr" / "NSARM.pth")
    (models / "text_encoders").mkdir(exist_ok=True)
    write_text_encoder(models / "text_encoders" / "t5_tiny.safetensors", TEXT_WIDTH)
    write_text_encoder(models / "text_encoders" / "t5_wide.safetensors", 2 * TEXT_WIDTH)
    save_file({"shared.weight": torch.zeros(4, 4)}, models / "text_encoders" / "no_t5.safetensors")


def write_quarter(models: Path) -> None:
    """nsarm/quarter.safetensors: all 13 scales and 256 -> 1024 pixels, a quarter as wide."""
    release = list(write_release(models / "quarter", QUARTER))
    convert_files(release, models / "nsarm" / "quarter.safetensors", torch.bfloat16)


def _write_broken(folder: Path) -> None:
    broken = folder / "broken"
    broken.mkdir(exist_ok=True)
    transformer = random_weights(transformer_shapes(MICRO))
    transformer["schedule"] = torch.tensor(MICRO.sides)
    plain = {n: t for n, t in transformer.items() if not n.startswith("map_transformer.")}
    maps = {n: t for n, t in transformer.items() if n.startswith("map_transformer.")}
    torch.save(plain, broken / "infinity.pth")
    save_file(maps, broken / "maps.safetensors")
    torch.save(transformer, broken / "alone.pth")
    for whole in ("NSARM.pth", "micro_bf16.safetensors"):
        content = (folder / whole).read_bytes()
        (broken / f"truncated{Path(whole).suffix}").write_bytes(content[: len(content) // 2])
    incomplete = broken / "incomplete"
    incomplete.mkdir(exist_ok=True)
    left = {n: t for n, t in transformer.items() if n != "block_chunks.1.module.0.ffn.fc1.weight"}
    torch.save(left, incomplete / "NSARM.pth")
    shutil.copy(folder / AUTOENCODER, incomplete / AUTOENCODER)
    shape = {**transformer, "block_chunks.1.module.0.ffn.fc2.bias": torch.zeros(3)}
    (broken / "shape").mkdir(exist_ok=True)
    torch.save(shape, broken / "shape" / "NSARM.pth")
    torch.save({"vae": random_weights(vae_shapes(MICRO))}, broken / "shape" / AUTOENCODER)


def write_text_encoder(path: Path, width: int) -> None:
    """A T5 encoder with random weights, by the names of the public one."""
    generator = torch.Generator().manual_seed(0)
    inner = T5["heads"] * T5["head"]
    shapes = {"shared.weight": (T5["vocabulary"], width)}
    for i in range(T5["layers"]):
        attention = f"encoder.block.{i}.layer.0"
        for part in "qkv":
            shapes[f"{attention}.SelfAttention.{part}.weight"] = (inner, width)
        shapes[f"{attention}.SelfAttention.o.weight"] = (width, inner)
        shapes[f"{attention}.layer_norm.weight"] = (width,)
        dense = f"encoder.block.{i}.layer.1"
        for part in ("wi_0", "wi_1"):
            shapes[f"{dense}.DenseReluDense.{part}.weight"] = (T5["wide"], width)
        shapes[f"{dense}.DenseReluDense.wo.weight"] = (width, T5["wide"])
        shapes[f"{dense}.layer_norm.weight"] = (width,)
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    shapes[bias] = (T5["buckets"], T5["heads"])
    shapes["encoder.final_layer_norm.weight"] = (width,)
    weights = {
        name: torch.randn(shape, generator=generator) * (1.0 if "norm" in name else 0.3)
        for name, shape in shapes.items()
    }
    weights["decoder.final_layer_norm.weight"] = torch.zeros(width)  # is left aside
    save_file(weights, path)
