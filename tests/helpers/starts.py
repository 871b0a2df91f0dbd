"""Tiny files that a run starts from, as their authors lay them out: VARSR, VARSR_C2I and VAR."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers import models
from tools.random_checkpoint import (
    MICRO,
    RELEASED,
    class_to_image,
    random_weights,
    tokenizer_shapes,
    transformer_shapes,
)
from varsr_core.varsr.config import VARSRConfig

CLASS_SIDES = (1, 2, 4)  # one scale less than MICRO, as VARSR_C2I has another number than VARSR
VAR_SIDES = (1, 2, 3, 8)  # as many as MICRO, as VAR-d24 has as many as VARSR
VAR_CLASSES = 12


def sizes_of(config: VARSRConfig) -> dict[str, Any]:
    """As a configuration file has them."""
    parts = {name: getattr(config, name) for name in ("tokenizer", "transformer", "refiner")}
    plain = {name: dataclasses.asdict(part) for name, part in parts.items()}
    return {**plain, "schedule": list(config.schedule.sides)}


def micro_sizes() -> dict[str, Any]:
    """Of the restorer."""
    return sizes_of(models.micro_model().config)


def class_sizes(classes: int = 11) -> dict[str, Any]:
    """Of the class-to-image model of write_c2i()."""
    sizes = micro_sizes()
    transformer = {**sizes["transformer"], "prefix_widths": [], "num_classes": classes}
    return {**sizes, "transformer": transformer, "schedule": list(CLASS_SIDES)}


def released_on_meta(*, with_prefix: bool) -> dict[str, Tensor]:
    """VARSR.pth or VARSR_C2I.pth with its tokenizer at the released sizes, without memory."""
    sizes = RELEASED if with_prefix else class_to_image(RELEASED)
    shapes = tokenizer_shapes(sizes) | transformer_shapes(sizes, with_prefix=with_prefix)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    scales = torch.tensor([side * side for side in sizes.sides])
    scales[0] += shapes["pos_start"][1] - 1
    numbers = torch.arange(len(scales)).repeat_interleave(scales)[None]
    return tensors | {"lvl_1L": numbers}


def tokenizer() -> dict[str, Tensor]:
    return random_weights(tokenizer_shapes(MICRO), MICRO)


def write_varsr(folder: Path) -> tuple[list[Path], dict[str, Tensor]]:
    """VARSR.pth and VQVAE.pth, and what both hold."""
    weights = models.reference_weights()
    own = tokenizer().keys()
    vae = {name: tensor for name, tensor in weights.items() if name in own}
    rest = {name: tensor for name, tensor in weights.items() if name not in own}
    torch.save({"trainer": {"vae_local": vae}}, folder / "VQVAE.pth")
    torch.save({"trainer": {"var_wo_ddp": rest}}, folder / "VARSR.pth")
    return [folder / "VARSR.pth", folder / "VQVAE.pth"], weights


def write_c2i(folder: Path) -> tuple[list[Path], dict[str, Tensor]]:
    """VARSR_C2I.pth and VQVAE.pth, and what both hold."""
    sizes = replace(class_to_image(MICRO), sides=CLASS_SIDES)
    transformer = random_weights(transformer_shapes(sizes, with_prefix=False), sizes, 1)
    torch.save({"trainer": {"vae_local": tokenizer()}}, folder / "VQVAE.pth")
    torch.save({"trainer": {"var_wo_ddp": transformer}}, folder / "VARSR_C2I.pth")
    return [folder / "VARSR_C2I.pth", folder / "VQVAE.pth"], tokenizer() | transformer


def write_var(folder: Path) -> tuple[list[Path], dict[str, Tensor]]:
    """A VAR and its VAE, each a plain dictionary, and what both hold."""
    sizes = replace(MICRO, sides=VAR_SIDES, classes=VAR_CLASSES)
    transformer = random_weights(transformer_shapes(sizes, with_prefix=False), sizes, 1)
    later = ("diffloss.", "decoder_norm.")
    transformer = {name: t for name, t in transformer.items() if not name.startswith(later)}
    tokens = transformer["lvl_1L"].shape[1]
    transformer["pos_1LC"] = torch.randn(1, tokens, MICRO.width)
    torch.save(transformer, folder / "var_micro.pth")
    torch.save(tokenizer(), folder / "vae.pth")
    return [folder / "var_micro.pth", folder / "vae.pth"], tokenizer() | transformer
