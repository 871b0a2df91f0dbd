"""K2N files as its authors' code writes them, in both forms, with the small model's weights."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers import models, weight_recipe
from helpers.paths import DATA
from tools import random_checkpoint, random_k2n
from tools.random_k2n import SIZES
from varsr_core.checkpoint import fingerprint
from varsr_core.convert import convert_files
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.weights import build_model, convert

SCALES = ((1, 16, 1, 4), (2, 16, 2, 4), (3, 32, 2, 8))  # side, width, layers, heads
MICRO = SIZES["micro"].varsr  # tiles of 128 pixels
QUARTER = 128  # pixels along a side that K2N sees of a tile


def write_fitting(folder: Path) -> Path:
    """The folder, with varsr.safetensors, which has 128-pixel tiles, its K2N as released, and that
    as converted.safetensors."""
    release = random_checkpoint.write_release(folder, MICRO)
    convert_files(list(release), folder / "varsr.safetensors", torch.float32)
    path = random_k2n.write_release(folder, SIZES["micro"])
    convert_files([path], folder / "converted.safetensors", torch.float32)
    return folder


@lru_cache
def micro_varsr() -> VARSR:
    """That the micro size of tools/random_k2n.py is for."""
    with torch.inference_mode(False):  # kept for all tests, whoever asked first
        weights = convert(models.reference_weights(MICRO))
    return build_model(weights, fingerprint=fingerprint(weights))


def reconstructor() -> dict[str, Tensor]:
    found = load_file(DATA / "k2n_tiny.safetensors")
    return {name.removeprefix("reconstructor."): tensor for name, tensor in found.items()}


def encoder(part: str = "encoder", ours: str = "lr_encoder") -> dict[str, Tensor]:
    """Of the tokenizer's shapes, with weights of its own; part: its prefix in the tokenizer"""
    manifest = json.loads((DATA / "varsr_tiny_manifest.json").read_text())
    made = {}
    for tensors in manifest.values():
        for name, (shape, _) in tensors.items():
            if name.startswith(f"{part}."):
                own = name.removeprefix(f"{part}.")
                values = weight_recipe.tensor(f"{ours}.{own}", shape, 0)
                made[own] = torch.from_numpy(np.asarray(values).reshape(shape))
    return made


def config() -> dict[str, Any]:
    names = ("patch_size", "width", "layers", "heads")
    scales = [dict(zip(names, scale, strict=True)) for scale in SCALES]
    return {"reconstructor": {"scales": scales, "channels": 32, "latent_size": 32}}


def write_todays(path: Path, tokenizer: Path | None = None, **changes: Any) -> Path:
    """tokenizer: the VQVAE.pth that it says it was made with"""
    hashed = hashlib.sha256(tokenizer.read_bytes() if tokenizer else b"").hexdigest()
    content = {
        "format": "k2nsr",
        "version": 1,
        "config": config(),
        "vae_sha256": hashed,
        "reconstructor": reconstructor(),
        "lr_encoder": encoder(),
        "lr_quant_conv": encoder("quant_conv", "lr_quant_conv"),
        "training": {"epoch": 40, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    }
    torch.save(content | changes, path)
    return path


def write_older(path: Path, *, with_config: bool = True) -> Path:
    """The "legacy P5" form."""
    older = {}
    for name, tensor in reconstructor().items():
        older[f"map_transformer.{_older_name(name)}"] = tensor
    older |= {f"vae_student.encoder.{name}": tensor for name, tensor in encoder().items()}
    content: dict[str, Any] = {
        "transformation": older,
        "vae_student_encoder": encoder(),
        "vae_student_quant_conv": encoder("quant_conv", "lr_quant_conv"),
    }
    torch.save(content | ({"config": config()} if with_config else {}), path)
    return path


def _older_name(name: str) -> str:
    scales = {"input_residual_scale": "alpha_input", "feature_residual_scale": "alpha_feat"}
    if name in scales:
        return scales[name]
    if not name.startswith("branches."):
        return f"base.{name}"
    _, number, part, rest = name.split(".", 3)
    parts = {"output_projection": "output_projs"}
    return f"base.{parts.get(part, f'{part}s')}.{number}.{rest}"


def write_tiny_varsr(folder: Path) -> tuple[Path, Path]:
    """VQVAE.pth and VARSR.pth of the small model that K2N's numbers were recorded with."""
    sides = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
    numbers = np.concatenate([np.full(side * side, k) for k, side in enumerate(sides)])
    numbers = np.concatenate((np.zeros(sides[-1] ** 2, int), numbers))
    manifest = json.loads((DATA / "varsr_tiny_manifest.json").read_text())
    paths = folder / "VQVAE.pth", folder / "VARSR.pth"
    keys = ("vae_local", "var_wo_ddp")
    for path, key, tensors in zip(paths, keys, manifest.values(), strict=True):
        state = {}
        for name, (shape, _) in tensors.items():
            if name == "lvl_1L":
                state[name] = torch.from_numpy(numbers)[None]
            elif name == "attn_bias_for_masking":
                state[name] = torch.zeros(1, 1, 1, 1).expand(shape)
            else:
                values = np.asarray(weight_recipe.tensor(name, shape, 0)).reshape(shape)
                state[name] = torch.from_numpy(values)
        torch.save({"trainer": {key: state}}, path)
    return paths
