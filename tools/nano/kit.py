"""What a GPU elsewhere is brought to train the embedded model: small enough to travel.

Crops as JPEG, and in 8 bits a weight, with a factor for every output channel: the teacher, the
features of the perceptual loss, and the networks that training begins with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from tools.nano.teacher import Teacher, load_teacher
from tools.nano.train import VGGFeatures
from varsr_core.checkpoint import load_checkpoint
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.varsr.config import VARSRConfig, infer_config
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.model import VARSR

CROPS, TEACHER, FEATURES, START = "crops", "teacher.safetensors", "features.safetensors", "start"
FACTOR = ".factor"  # behind a tensor's name: what its rows are multiplied by
LEVELS = 127
NEW = ("transformer.", "refiner.", "word_embed.")  # not brought: they are begun anew


def pack(crops: Path, features: Path, model: Path, out: Path, side: int, quality: int) -> None:
    """Writes a kit; the middle `side` pixels of every crop."""
    (out / CROPS).mkdir(parents=True)
    shutil.copy(crops / "manifest.tsv", out / CROPS)
    for path in sorted(crops.glob("*.jpg")):
        with Image.open(path) as image:
            left, top = ((length - side) // 2 for length in image.size)
            middle = image.crop((left, top, left + side, top + side))
            middle.save(out / CROPS / path.name, quality=quality, subsampling=0)
    save_file(eight_bits(load_teacher().state_dict()), out / TEACHER)
    save_file(eight_bits(load_file(features)), out / FEATURES)
    tensors = load_checkpoint([model], VARSR_FAMILY).tensors
    (out / f"{START}.json").write_text(json.dumps(plain_sizes(infer_config(tensors))))
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(NEW)}
    save_file(eight_bits(kept), out / f"{START}.safetensors")


def eight_bits(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of more than one dimension as int8 and a factor a row; the others as they are."""
    packed = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            packed[name] = tensor.clone()
            continue
        rows = tensor.float().flatten(1)
        factor = rows.abs().amax(dim=1).clamp(min=1e-12) / LEVELS
        packed[name] = (rows / factor[:, None]).round().to(torch.int8).view(tensor.shape)
        packed[name + FACTOR] = factor
    return packed


def full(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What eight_bits() was given, in float32 and nearly."""
    tensors = {}
    for name, tensor in packed.items():
        if name + FACTOR in packed:
            factor = packed[name + FACTOR].view(-1, *[1] * (tensor.ndim - 1))
            tensors[name] = tensor.float() * factor
        elif not name.endswith(FACTOR):
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors


def plain_sizes(config: VARSRConfig) -> dict[str, Any]:
    """As recipes hold them."""
    parts = ("tokenizer", "transformer", "refiner")
    sizes: dict[str, Any] = {name: asdict(getattr(config, name)) for name in parts}
    return {**sizes, "schedule": config.schedule.sides}


def teacher_of(kit: Path) -> Teacher:
    tensors = full(load_file(kit / TEACHER))
    count = len(tensors) // 2
    names = [f"convolutions.{number}" for number in range(count)]
    return Teacher([(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in names])


def features_of(kit: Path) -> VGGFeatures:
    return VGGFeatures(full(load_file(kit / FEATURES)))


def start_of(kit: Path) -> VARSR:
    """Tokenizer and prefix encoder as brought, all else drawn."""
    sizes = json.loads((kit / f"{START}.json").read_text())
    model = new_model(config_from_json(sizes), 0)
    model.load_state_dict(full(load_file(kit / f"{START}.safetensors")), strict=False)
    return model
